import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CACHE_TAG } from '../../../src/lib/builder/buildkit/builder.ts'
import { buildkitdEndpoint } from '../../../src/lib/buildkit/buildkitd-endpoint.ts'
import { cacheSize } from '../../../src/lib/buildkit/cache-limit.ts'
import type { Endpoint } from '../../../src/lib/buildkit/endpoint.ts'
import { engineEndpoint } from '../../../src/lib/buildkit/engine-endpoint.ts'
import { pushBase } from '../../builder/builder.contract.ts'
import { startBuildkitd } from '../../support/engines/buildkitd.ts'
import { docker } from '../../support/engines/engine.ts'
import { imageConfig } from '../../support/images/pushed-image.ts'
import { tempDir } from '../../support/temp.ts'
import { startTrixieEngine } from '../../support/trixie.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** Something that builds, and the server settings to use it. */
type Machine = AsyncDisposable & { settings: NodeJS.ProcessEnv; told: string; endpoint: Endpoint }

async function engineMachine(): Promise<Machine> {
  const engine = await startTrixieEngine({ store: 'containerd' })
  return {
    settings: { DOCKER_HOST: engine.dockerHost, BUILD_NETWORK: 'host' },
    told: 'building and pushing with the BuildKit of the Docker engine',
    endpoint: engineEndpoint(docker(engine)),
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
}

async function buildkitdMachine(): Promise<Machine> {
  const folder = await tempDir('conveyor-certificates-')
  const buildkitd = await startBuildkitd()
  const { ca, cert, key } = buildkitd.tls
  const names = { 'ca.pem': ca, 'cert.pem': cert, 'key.pem': key }
  await mkdir(join(folder.path, 'tls'))
  for (const [name, path] of Object.entries(names)) await copyFile(path, join(folder.path, 'tls', name))
  return {
    settings: {
      DOCKER_HOST: 'unix:///nonexistent/docker.sock', // no engine is needed
      BUILDER: 'buildkit',
      BUILDKIT_ADDR: buildkitd.address,
      BUILDKIT_TLS: join(folder.path, 'tls'),
    },
    told: `building on buildkitd at ${buildkitd.address}`,
    endpoint: buildkitdEndpoint('buildkitd', { path: buildkitd.socket.replace('unix://', '') }),
    async [Symbol.asyncDispose]() {
      await buildkitd[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

/** A repository with an expensive step on its dependencies. */
async function subject(world: World) {
  const repository = `straight/r${process.pid}`
  const git = await world.git.create(repository)
  const base = await pushBase(world.registry.host)
  const dockerfile = `FROM ${base}\nCOPY deps /deps\nRUN cat /proc/sys/kernel/random/uuid > /made\nCOPY . /app\nRUN cat /app/src\n`
  await git.commit({ Dockerfile: dockerfile, deps: 'a' })
  let changes = 0
  return {
    repository,
    git,
    oneLine: () => git.commit({ src: `change ${changes++}` }),
    image: (tag: string) => imageConfig(`${world.registry.host}/${repository}:${tag}`),
  }
}

/** The dependencies and the expensive step on them are cached; the rest has changed. */
const COSTLY_CACHED = '(2 of 4 steps cached, '

describe.each([
  ['an engine with the containerd store', engineMachine],
  ['a buildkitd of its own', buildkitdMachine],
])('straight to BuildKit: %s', (_, start) => {
  test('a push is built, published and reused, and new machines start with its cache', async () => {
    await using world = await startWorld()
    const { repository, git, oneLine, image } = await subject(world)
    {
      await using machine = await start()
      const server = await world.startServer({ env: machine.settings })
      await server.waitFor(new RegExp(machine.told))
      const build = async (sha: string) =>
        buildLog(server, await world.push(server, { repository, sha, branch: 'main' }))
      const first = await oneLine()
      expect(await build(first)).toMatch(
        /build \d.*\(0 of 4 steps cached, .*, push \d.*tags .*main, latest\n/s,
      )
      const { manifest, digest } = await image('main')
      expect(manifest.layers.at(-1)?.mediaType).toContain('zstd')
      expect((await image(first)).digest).toBe(digest)
      await expect
        .poll(() =>
          image(CACHE_TAG).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true)

      const second = await oneLine()
      expect(await build(second)).toContain(COSTLY_CACHED)
      expect((await image('latest')).digest).toBe((await image(second)).digest)
      const revert = await git.commit({ src: 'change 0' })
      expect(await build(revert)).toContain('nothing to build: ')
      expect((await image('main')).digest).toBe(digest)
      await server.kill()
    }
    // The first build on a machine without a mirror, a cache or images: once unprepared, once warmed.
    for (const warm of ['0', '10']) {
      await using machine = await start()
      await rm(join(world.dataDir, 'mirrors'), { recursive: true, force: true })
      const server = await world.startServer({ env: { ...machine.settings, WARM: warm } })
      if (warm !== '0') {
        await server.waitFor(/warm: (\S+) is ready/)
        // Warming fetches the layers, and not only their names: busybox is 2 MB.
        expect(await cacheSize(machine.endpoint)).toBeGreaterThan(1e6)
      }
      const sha = await oneLine()
      const log = await buildLog(server, await world.push(server, { repository, sha }))
      expect(log).toContain(COSTLY_CACHED)
      await server.kill()
    }
  })
})
