import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startPrivateEngine } from './support/engine.ts'
import { engine } from './support/global-setup.ts'
import { tempDir } from './support/temp.ts'
import { buildLog, startWorld } from './support/world.ts'

test('a worker on a new machine makes itself ready, and then builds a small change from its cache', async () => {
  await using world = await startWorld()
  const repository = `warm/r${process.pid}`
  const git = await world.git.create(repository)

  // A new machine has no base image of its own, so it comes from the registry.
  const base = `${world.registry.host}/warm/base`
  const { docker } = engine()
  await docker.getImage('conveyor-test/busybox:1').tag({ repo: base, tag: '1' })
  for await (const _ of await docker
    .getImage(`${base}:1`)
    .push({ authconfig: { username: '', password: '' } })) {
    // until it is pushed
  }
  await docker.getImage(`${base}:1`).remove()

  const dockerfile = `FROM ${base}:1\nCOPY deps /deps\nRUN date +%N > /installed\nCOPY . /app\n`
  const old = await world.startServer()
  const one = await git.commit({ Dockerfile: dockerfile, deps: 'a', src: '1' })
  await buildLog(old, await world.push(old, { repository, sha: one }))
  await old.kill()

  await using data = await tempDir()
  await using machine = await startPrivateEngine(join(data.path, 'engine'), { removeData: true })
  await rm(join(world.dataDir, 'mirrors'), { recursive: true })
  const env = { DOCKER_HOST: machine.dockerHost, BUILD_NETWORK: 'host' }
  const fresh = await world.startServer({ env })
  await fresh.waitFor(/warm: (\S+) is ready/)

  world.git.requests.length = 0
  const two = await git.commit({ src: '2' })
  const log = await buildLog(fresh, await world.push(fresh, { repository, sha: two }))
  expect(log).toMatch(/\[3\/4\] RUN date .*\n#\d+ CACHED/)
  expect(log).toMatch(/Fetched [1-4] objects/)
  await fresh.kill()

  // Nothing is left to do for a worker that has all of it.
  const again = await world.startServer({ env })
  await buildLog(again, await world.push(again, { repository, sha: two, branch: 'other' }))
  expect(again.stderr()).not.toContain('warm:')
})
