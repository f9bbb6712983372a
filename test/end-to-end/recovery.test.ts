import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { type Gate, type RegistryFront, startGate, startRegistryFront } from '../support/gates.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** The process is killed at every stage of a build, and restarted on the same data. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'

let world: World
let front: RegistryFront
beforeAll(async () => {
  // Warming would access the git server and the registry before the build that a test waits for.
  world = await startWorld({ env: { WARM: '0' } })
  front = await startRegistryFront(world.registry.host)
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await front[Symbol.asyncDispose]()
})

const start = (...flags: string[]) =>
  world.startServer({ flags: ['--registry', front.host, '--build.network', 'host', ...flags] })

/** A repository with one commit whose build waits at a gate, and a second commit on top of it. */
async function repositoryWith(repository: string, gate?: Gate) {
  const git = await world.git.create(repository)
  const step = gate ? `RUN ${gate.command()}\n` : ''
  const sha = await git.commit({ Dockerfile: `${DOCKERFILE}${step}`, name: repository })
  return { repository, sha, git }
}

/** Waits until a build succeeds, and checks everything that a crash could have left broken. */
async function expectWhole(
  server: ConveyorServer,
  { id, repository, sha, branch = 'main' }: { id: string; repository: string; sha: string; branch?: string },
): Promise<string> {
  await world.github.waitForStatus((status) => status.sha === sha && status.state !== 'pending')
  const states = world.github.statuses.filter((status) => status.sha === sha).map(({ state }) => state)
  expect(states.filter((state) => state !== 'pending')).toEqual(['success'])
  expect(states.at(-1)).toBe('success')

  const digest = await world.digest(repository, sha)
  const build = (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson
  expect(build).toMatchObject({
    state: 'succeeded',
    error: null,
    image: `${front.host}/${repository}@${digest}`,
  })

  const log = await buildLog(server, id)
  expect(log).toMatch(new RegExp(`^building ${repository}@${sha} \\(branch ${branch}\\)\n`))
  expect(log).toMatch(new RegExp(`\nimage ${front.host}/${repository}@${digest}\n$`))
  return log
}

/** No processes of ours except the server, no locks or partial files in a mirror, no logs without an end. */
async function expectNothingLeft(server: ConveyorServer): Promise<void> {
  const leftovers = async () => {
    const files = await readdir(world.dataDir, { recursive: true })
    return files.filter((path) => /\.git\/(.*\.lock|.*tmp_.*)$|\.part$/.test(path))
  }
  // Maintenance of a mirror may still be running, which has locks, too, and takes folders away while they are listed.
  await expect.poll(leftovers).toEqual([])
  // A cache export to the registry may still be running.
  await expect.poll(() => processesIn(world.dataDir)).toEqual([server.pid])
}

/** Processes with a folder in their command line or environment. */
async function processesIn(folder: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
  const texts = await Promise.all(
    pids.flatMap((pid) =>
      ['environ', 'cmdline'].map(async (file) => ({
        pid: Number(pid),
        // The process may have ended by now.
        text: await readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => ''),
      })),
    ),
  )
  return [...new Set(texts.filter(({ text }) => text.includes(folder)).map(({ pid }) => pid))]
}

async function expectTags(repository: string, tags: string[], sha: string): Promise<void> {
  const digest = await world.digest(repository, sha)
  expect(digest).not.toBeNull()
  for (const tag of tags) expect(await world.digest(repository, tag)).toBe(digest)
}

/** The state of a build while no server runs. */
async function stored(id: string) {
  const store = await sqliteBuildStore({ file: join(world.dataDir, 'conveyor.db') })
  try {
    return await store.get(id)
  } finally {
    await store.close()
  }
}

describe('what was accepted survives a SIGKILL', () => {
  test('of a server that had it in its queue', async () => {
    await using gate = await startGate()
    const first = await repositoryWith('acme/busy', gate)
    const second = await repositoryWith('acme/queued')
    const before = await start('--workers', '1')
    const firstId = await world.push(before, first)
    await gate.arrival()
    const id = await world.push(before, second)
    await before.kill('SIGKILL')

    gate.open()
    await using after = await start('--workers', '1')
    await expectWhole(after, { id: firstId, ...first })
    await expectWhole(after, { id, ...second })
    await expectTags('acme/queued', ['main', 'latest'], second.sha)
    await expectNothingLeft(after)
  })

  test('while it fetched', async () => {
    const { repository, sha } = await repositoryWith('acme/fetching')
    const held = world.git.hold()
    const before = await start()
    const id = await world.push(before, { repository, sha })
    await held.arrived
    await before.kill('SIGKILL')

    held.release()
    await using after = await start()
    await expectWhole(after, { id, repository, sha })
    await expectTags(repository, ['main', 'latest'], sha)
    await expectNothingLeft(after)
  })

  test('while it built', async () => {
    await using gate = await startGate()
    const { repository, sha } = await repositoryWith('acme/building', gate)
    const before = await start()
    const id = await world.push(before, { repository, sha, branch: 'feature/x' })
    const step = await gate.arrival()
    await before.kill('SIGKILL')
    await step.gone // the engine ends a build whose client is gone

    gate.open()
    await using after = await start()
    const log = await expectWhole(after, { id, repository, sha, branch: 'feature/x' })
    expect(log).toContain('attempt 2 of 3')
    await expectTags(repository, ['feature-x', 'latest'], sha)
    await expectNothingLeft(after)
  })

  test('while it pushed', async () => {
    const { repository, sha } = await repositoryWith('acme/pushing')
    const held = front.hold(/^(POST|PATCH|PUT) \/v2\/acme\/pushing\/blobs\//)
    const before = await start()
    const id = await world.push(before, { repository, sha })
    await held.arrival()
    await before.kill('SIGKILL')

    held.release()
    await using after = await start()
    await expectWhole(after, { id, repository, sha })
    await expectTags(repository, ['main', 'latest'], sha)
    await expectNothingLeft(after)
  })

  test('while it tagged', async () => {
    const { repository, sha } = await repositoryWith('acme/tagging')
    const held = front.hold(/^PUT \/v2\/acme\/tagging\/manifests\/main$/)
    const before = await start()
    const id = await world.push(before, { repository, sha })
    await held.arrival()
    await before.kill('SIGKILL')
    expect(await world.digest(repository, 'main')).toBeNull()

    held.release()
    await using after = await start()
    await expectWhole(after, { id, repository, sha })
    await expectTags(repository, ['main', 'latest'], sha)
    await expectNothingLeft(after)
  })

  test('after it stored the result, before it reported to GitHub', async () => {
    const { repository, sha } = await repositoryWith('acme/untold')
    world.github.failAlways('hang')
    const before = await start()
    const id = await world.push(before, { repository, sha })
    await buildLog(before, id)
    await before.kill('SIGKILL')
    expect(await stored(id)).toMatchObject({ state: 'succeeded' })
    expect(world.github.statuses.filter((status) => status.sha === sha)).toEqual([])

    world.github.failAlways(null)
    await using after = await start()
    const log = await expectWhole(after, { id, repository, sha })
    expect(log).not.toContain('attempt 2')
    await expectNothingLeft(after)
  })

  test('but a build that kills its server three times is given up', async () => {
    await using gate = await startGate()
    const { repository, sha } = await repositoryWith('acme/deadly', gate)
    let id = ''
    for (const _attempt of [1, 2, 3]) {
      const before = await start()
      id ||= await world.push(before, { repository, sha })
      const step = await gate.arrival()
      await before.kill('SIGKILL')
      await step.gone
    }

    await using after = await start()
    const status = await world.github.waitForStatus((one) => one.sha === sha && one.state !== 'pending')
    const error = `gave up building ${repository}@${sha.slice(0, 7)} after 3 attempts: the process that ran the last one died`
    expect(status).toMatchObject({ state: 'error', description: expect.stringContaining(error) })
    const build = (await (await fetch(`${after.url}/builds/${id}`)).json()) as BuildJson
    expect(build).toMatchObject({ state: 'failed', error: expect.stringContaining(error) })
    expect(await buildLog(after, id)).toMatch(/\nerror: gave up building .* push again\n$/)
    await expectNothingLeft(after)
  })

  test('and a build that ran at the same time is not given up', async () => {
    await using deadly = await startGate()
    await using harmless = await startGate()
    const bad = await repositoryWith('acme/deadly-beside', deadly)
    const good = await repositoryWith('acme/harmless', harmless)
    const first = await start('--workers', '2')
    await world.push(first, bad)
    const id = await world.push(first, good)
    const steps = await Promise.all([deadly.arrival(), harmless.arrival()])
    await first.kill('SIGKILL')
    for (const step of steps) await step.gone
    for (const _attempt of [1, 2, 3]) {
      const before = await start('--workers', '2')
      const step = await deadly.arrival()
      await before.kill('SIGKILL')
      await step.gone
    }

    harmless.open()
    await using after = await start('--workers', '2')
    const status = await world.github.waitForStatus((one) => one.sha === bad.sha && one.state !== 'pending')
    expect(status.description).toMatch(/^gave up building .* after 3 attempts/)
    const log = await expectWhole(after, { id, ...good })
    expect(log).not.toContain('attempt 2')
    await expectNothingLeft(after)
  })

  test('of two pushes to one branch, the newer one gets the tags', async () => {
    await using gate = await startGate()
    const { repository, sha: older, git } = await repositoryWith('acme/two', gate)
    const newer = await git.commit({ name: 'newer' })
    const before = await start('--workers', '2')
    const olderId = await world.push(before, { repository, sha: older })
    const newerId = await world.push(before, { repository, sha: newer })
    await Promise.all([gate.arrival(), gate.arrival()])
    await before.kill('SIGKILL')

    gate.open()
    await using after = await start('--workers', '2')
    await expectWhole(after, { id: olderId, repository, sha: older })
    await expectWhole(after, { id: newerId, repository, sha: newer })
    await expectTags(repository, ['main', 'latest'], newer)
    await expectNothingLeft(after)
    expect(await world.digest(repository, older)).not.toBe(await world.digest(repository, newer))
  })
})

const stopped = { code: 0, signal: null }

describe('SIGTERM lets the running build finish', () => {
  test('while its log can be read and pushes are accepted; then the process exits', async () => {
    await using gate = await startGate()
    const { repository, sha, git } = await repositoryWith('acme/drained', gate)
    const before = await start()
    const id = await world.push(before, { repository, sha })
    await gate.arrival()
    process.kill(before.pid, 'SIGTERM')
    await before.waitFor(/shutting down: waiting up to 600 s for running builds/)
    const later = await git.commit({ name: 'later' })
    const laterId = await world.push(before, { repository, sha: later })
    const log = buildLog(before, id)
    gate.open()
    expect(await log).toContain(`\nimage ${front.host}/${repository}@`)
    expect(await before.exited).toEqual(stopped)
    expect(await stored(id)).toMatchObject({ state: 'succeeded', attempt: 1 })
    expect(await stored(laterId)).toMatchObject({ state: 'pending', attempt: 0 })

    await using after = await start()
    await expectWhole(after, { id: laterId, repository, sha: later })
    await expectNothingLeft(after)
  })

  test('unless it is sent again: then the build is requeued', async () => {
    await using gate = await startGate()
    const { repository, sha } = await repositoryWith('acme/hurried', gate)
    const before = await start()
    const id = await world.push(before, { repository, sha })
    const step = await gate.arrival()
    process.kill(before.pid, 'SIGTERM')
    await before.waitFor(/shutting down: /)
    process.kill(before.pid, 'SIGTERM')
    expect(await before.exited).toEqual(stopped)
    await step.gone
    expect(await stored(id)).toMatchObject({ state: 'pending', attempt: 0 })
    gate.open()
    await using after = await start()
    await expectWhole(after, { id, repository, sha })
  })
})

describe('SIGTERM requeues the running build after the drain time', () => {
  test('during a RUN step, which is stopped; the attempt does not count', async () => {
    await using gate = await startGate()
    const { repository, sha } = await repositoryWith('acme/stopped', gate)
    const before = await start('--drain', '0s')
    const id = await world.push(before, { repository, sha })
    const step = await gate.arrival()
    expect(await before.kill('SIGTERM')).toEqual(stopped)
    await step.gone
    expect(await stored(id)).toMatchObject({ state: 'pending', attempt: 0 })

    gate.open()
    await using after = await start()
    const log = await expectWhole(after, { id, repository, sha })
    expect(log).toContain('\nthe worker is shutting down; the build was requeued and will be retried\n')
    expect(log).not.toContain('attempt 2')
    await expectNothingLeft(after)
  })

  test('during a fetch, a push and the tagging, whatever does not respond', async () => {
    const fetching = await repositoryWith('acme/stop-fetch')
    const pushing = await repositoryWith('acme/stop-push')
    const tagging = await repositoryWith('acme/stop-tag')
    const pushes = front.hold(/^(POST|PATCH|PUT) \/v2\/acme\/stop-push\/blobs\//)
    const tags = front.hold(/^PUT \/v2\/acme\/stop-tag\/manifests\/main$/)
    const before = await start('--workers', '3', '--drain', '0s')
    const pushId = await world.push(before, pushing)
    const tagId = await world.push(before, tagging)
    await Promise.all([pushes.arrival(), tags.arrival()])
    const fetches = world.git.hold()
    const fetchId = await world.push(before, fetching)
    await fetches.arrived
    expect(await before.kill('SIGTERM')).toEqual(stopped)
    for (const id of [pushId, tagId, fetchId]) {
      expect(await stored(id)).toMatchObject({ state: 'pending', attempt: 0 })
    }

    for (const held of [fetches, pushes, tags]) held.release()
    await using after = await start()
    await expectWhole(after, { id: fetchId, ...fetching })
    await expectWhole(after, { id: pushId, ...pushing })
    await expectWhole(after, { id: tagId, ...tagging })
    await expectNothingLeft(after)
  })
})
