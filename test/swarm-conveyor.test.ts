import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildConveyorImage } from '../src/lib/bootstrap/builder-image.ts'
import type { ContainerBuild } from '../src/lib/builder/build-container.ts'
import { swarmBuilder } from '../src/lib/builder/swarm-builder.ts'
import { failure } from './build-container.contract.ts'
import { conveyorImageArguments } from './support/conveyor-image.ts'
import { forward } from './support/forward.ts'
import { type GitServer, startGitServer } from './support/git-server.ts'
import { memoryLog } from './support/memory-log.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { startSwarm, type TestSwarm } from './support/swarm.ts'

/** Conveyor's own builder image on the worker of a Swarm, as docs/deploy-swarm.md has it. */

const IMAGE = 'conveyor-test/conveyor-builder:swarm'
const LOGIN = { username: 'robot', password: 'secret-of-the-robot' }

const resources = new AsyncDisposableStack()
let swarm: TestSwarm
let git: GitServer
let registry: TestRegistry
/** As the nodes reach them. */
let gitHost: string
let registryHost: string
beforeAll(async () => {
  swarm = resources.use(await startSwarm())
  git = resources.use(await startGitServer())
  registry = resources.use(await startRegistry({ htpasswd: LOGIN }))
  gitHost = resources.use(await forward(swarm.address, new URL(git.url).host)).host
  registryHost = resources.use(await forward(swarm.address, registry.host)).host

  const { docker } = swarm.worker
  const buildArgs = await conveyorImageArguments(docker)
  await buildConveyorImage({ docker, buildArgs, image: IMAGE, network: 'host', log: () => {} })

  const auth = Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')
  const Data = Buffer.from(JSON.stringify({ auths: { [registryHost]: { auth } } })).toString('base64')
  await swarm.manager.docker.createSecret({ Name: 'conveyor.config.json', Data })
})
afterAll(() => resources.disposeAsync())

function start(build: Pick<ContainerBuild, 'repository' | 'sha'>) {
  const log = memoryLog()
  const builder = swarmBuilder({
    docker: swarm.manager.docker,
    image: IMAGE,
    credentials: { forHost: async () => null },
    network: 'host',
    binds: [
      `${swarm.worker.engine.dockerHost.replace('unix://', '')}:/var/run/docker.sock`,
      'conveyor-mirrors:/var/lib/conveyor',
    ],
    environment: {
      REGISTRY: `http://${registryHost}`,
      GIT_URL: `http://${gitHost}/{repository}.git`,
      BUILD_NETWORK: 'host',
    },
    constraints: [`node.id==${swarm.worker.id}`],
  })
  const whole = { buildId: randomUUID(), branch: 'main', dry: false, cache: true, ...build }
  return { log, ended: builder.run(whole, { log, signal: new AbortController().signal }) }
}

async function digest(repository: string, tag: string): Promise<string | null> {
  const authorization = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')}`
  const accept = 'application/vnd.docker.distribution.manifest.v2+json'
  const url = `${registry.url}/v2/${repository}/manifests/${tag}`
  const answer = await fetch(url, { method: 'HEAD', headers: { authorization, accept } })
  return answer.status === 404 ? null : answer.headers.get('docker-content-digest')
}

test("a build in the engine of the node, with the Swarm's login, and the node's mirror and cache for the next", async () => {
  const repository = 'acme/web'
  const repo = await git.create(repository)
  const Dockerfile = 'FROM conveyor-test/busybox:1\nCOPY base /app/\nRUN cat /app/base\nCOPY . /app\n'
  const sha = await repo.commit({ Dockerfile, base: `base ${randomUUID()}`, message: 'hello' })
  const first = start({ repository, sha })
  await first.ended
  expect(first.log.text).toContain(`tags ${sha}, main, latest\n`)
  const made = await digest(repository, sha)
  expect(made).toMatch(/^sha256:/)
  expect(await digest(repository, 'latest')).toBe(made)
  expect(first.log.text).not.toContain(LOGIN.password)

  const next = start({ repository, sha: await repo.commit({ message: 'hello again' }) })
  await next.ended
  expect(next.log.text).toMatch(/Fetched 3 objects/)
  expect(next.log.text).toMatch(/[1-9] of \d steps cached/)
  expect(await digest(repository, 'main')).not.toBe(made)
})

test('a build that fails has said why', async () => {
  const repo = await git.create('acme/broken')
  const sha = await repo.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN exit 7\n' })
  const { log, ended } = start({ repository: 'acme/broken', sha })
  expect(await failure(ended)).toMatchObject({ kind: 'build_failed' })
  expect(log.text).toContain('RUN exit 7 ended with exit code 7')
  expect(await digest('acme/broken', sha)).toBeNull()
})
