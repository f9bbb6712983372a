import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { docker, type PrivateEngine, startPrivateEngine } from '../support/engines/engine.ts'
import { engine } from '../support/global-setup.ts'
import { tempDir } from '../support/temp.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** A repository whose base image is in the registry, because a new machine has no images of its own. */
async function subject(world: World) {
  const repository = `warm/r${process.pid}`
  const git = await world.git.create(repository)
  const base = `${world.registry.host}/warm/base`
  const { docker } = engine()
  await docker.getImage('conveyor-test/busybox:1').tag({ repo: base, tag: '1' })
  for await (const _ of await docker
    .getImage(`${base}:1`)
    .push({ authconfig: { username: '', password: '' } })) {
    // until it is pushed
  }
  await docker.getImage(`${base}:1`).remove()
  const dockerfile = `FROM ${base}:1\nCOPY deps /deps\nRUN date +%N > /installed\nCOPY . /app\nRUN cat /app/src\n`
  await git.commit({ Dockerfile: dockerfile, deps: 'a' })
  let changes = 0
  return {
    repository,
    oneLine: () => git.commit({ src: `change ${changes++}` }),
  }
}

/** Does some work on a new machine: with an empty engine, and without mirrors. */
async function onNewMachine<T>(world: World, work: (machine: PrivateEngine) => Promise<T>): Promise<T> {
  await using data = await tempDir()
  await using machine = await startPrivateEngine(join(data.path, 'engine'), { removeData: true })
  await rm(join(world.dataDir, 'mirrors'), { recursive: true, force: true })
  return await work(machine)
}

const settings = (machine: PrivateEngine) => ({ DOCKER_HOST: machine.dockerHost, BUILD_NETWORK: 'host' })
/** The copied dependencies and the expensive step on them are cached; the rest has changed. */
const INSTALL_CACHED = '(2 of 4 steps cached, '

test('a worker on a new machine warms up, and then builds a small change from its cache', async () => {
  await using world = await startWorld()
  const { repository, oneLine } = await subject(world)
  const old = await world.startServer()
  await buildLog(old, await world.push(old, { repository, sha: await oneLine() }))
  await old.kill()

  await onNewMachine(world, async (machine) => {
    const fresh = await world.startServer({ env: settings(machine) })
    await fresh.waitFor(/warm: (\S+) is ready/)
    const sha = await oneLine()
    const log = await buildLog(fresh, await world.push(fresh, { repository, sha }))
    expect(log).toContain(INSTALL_CACHED)
    expect(log).toMatch(/fetched [1-4] objects/)
    await fresh.kill()

    // A worker that already has everything does nothing.
    const again = await world.startServer({ env: settings(machine) })
    await buildLog(again, await world.push(again, { repository, sha, branch: 'other' }))
    expect(again.stderr()).not.toContain('warm:')
    await again.kill()
  })
})

test('a worker warms up even if its images have been renamed', async () => {
  await using world = await startWorld()
  const { repository, oneLine } = await subject(world)
  const old = await world.startServer()
  await buildLog(old, await world.push(old, { repository, sha: await oneLine() }))
  await old.kill()
  await onNewMachine(world, async (machine) => {
    const REGISTRY = `${world.registry.host}/elsewhere`
    const server = await world.startServer({ env: { ...settings(machine), REGISTRY } })
    await server.waitFor(/warm: (\S+) is ready/)
    await server.kill()
  })
})

test('a new machine fetches the base image of a first build while its commit is still being fetched', async () => {
  await using world = await startWorld()
  const { repository, oneLine } = await subject(world)
  await onNewMachine(world, async (machine) => {
    const server = await world.startServer({ env: settings(machine) })
    const git = world.git.hold()
    const build = await world.push(server, { repository, sha: await oneLine() })
    await git.arrived
    const pulled = async () => {
      const { BuildCache } = await docker(machine).df()
      return BuildCache.filter(({ Description }: { Description: string }) =>
        Description.includes('warm/base:1'),
      )
    }
    await expect.poll(async () => (await pulled()).length).toBe(1)
    git.release()
    expect(await buildLog(server, build)).toContain('(0 of 4 steps cached, ')
    // No image is left in the engine: one of that name would now take precedence over the registry's.
    const names = (await docker(machine).listImages()).flatMap(({ RepoTags }) => RepoTags ?? [])
    expect(names.filter((name) => name.includes('warm/base'))).toEqual([])
    await server.kill()
  })
})

test('a series of new machines, each for one build, share the cache through the registry', async () => {
  await using world = await startWorld()
  const { repository, oneLine } = await subject(world)
  for (const [generation, warm] of ['0', '0', '0', '1', '1'].entries()) {
    await onNewMachine(world, async (machine) => {
      const server = await world.startServer({ env: { ...settings(machine), WARM: warm } })
      if (warm === '1') await server.waitFor(/warm: (\S+) is ready/)
      const log = await buildLog(server, await world.push(server, { repository, sha: await oneLine() }))
      if (generation > 0) expect(log, `generation ${generation}`).toContain(INSTALL_CACHED)
      await server.kill()
    })
  }
})
