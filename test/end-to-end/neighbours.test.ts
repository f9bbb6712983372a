import { afterAll, beforeAll, describe, type ExpectStatic, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { startAws, type TestAws } from '../support/aws/aws.ts'
import { startFleet } from '../support/fleet.ts'
import { type Gate, startGate } from '../support/gates.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** Several processes of one installation, some of which die: how each affects the builds of the others. */

let world: World
let postgres: TestPostgres
let aws: TestAws
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  world = resources.use(await startWorld({ env: { WARM: '0' }, flags: ['--build.network', 'host'] }))
  postgres = resources.use(await startPostgres())
  aws = resources.use(await startAws())
})
afterAll(() => resources.disposeAsync())

interface Commit {
  repository: string
  sha: string
}

/** A repository with one commit, whose build waits at the gate. */
async function commitTo(repository: string, gate?: Gate): Promise<Commit> {
  const git = await world.git.create(repository)
  const step = gate ? `RUN ${gate.command()}\n` : ''
  const Dockerfile = `FROM conveyor-test/busybox:1\nCOPY . /app\n${step}`
  return { repository, sha: await git.commit({ Dockerfile, name: repository }) }
}

const finalStatus = ({ sha }: Commit) =>
  world.github.waitForStatus((status) => status.sha === sha && status.state !== 'pending')

const finalStates = ({ sha }: Commit) =>
  world.github.statuses.filter((one) => one.sha === sha && one.state !== 'pending').map(({ state }) => state)

const buildOf = async (server: ConveyorServer, id: string) =>
  (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson

describe('servers with in-memory queues on one Postgres database', () => {
  test('never take over running builds, in three updates that start before the old server exits', async ({
    expect,
  }) => {
    await using gate = await startGate()
    await using data = await tempDir('conveyor-servers-')
    const DATABASE_URL = await postgres.database()
    let servers = 0
    const start = () =>
      world.startServer({ env: { DATABASE_URL, DATA_DIR: `${data.path}/${servers++}`, RETRY_DELAYS: '0s' } })
    const long = await commitTo('acme/long', gate)
    const old = await start()
    const id = await world.push(old, long)
    await gate.arrival()

    for (const update of ['one', 'two', 'three']) {
      const next = await start()
      const short = await commitTo(`acme/update-${update}`)
      const shortId = await world.push(next, short)
      await finalStatus(short)
      expect(await buildLog(next, shortId)).toContain('\nimage ')
      await next.kill('SIGKILL')
    }
    expect(await buildOf(old, id)).toMatchObject({ state: 'building', error: null })
    gate.open()
    await finalStatus(long)
    expect(await buildOf(old, id)).toMatchObject({ state: 'succeeded', error: null })
    expect(finalStates(long)).toEqual(['success'])
    const log = await buildLog(old, id)
    expect(log.match(/^building /gm)).toHaveLength(1)
  })

  test('take over the builds of one that dies, running or only accepted', async ({ expect }) => {
    await using gate = await startGate()
    await using data = await tempDir('conveyor-servers-')
    const DATABASE_URL = await postgres.database()
    const start = (name: string) =>
      world.startServer({
        env: { DATABASE_URL, DATA_DIR: `${data.path}/${name}`, WORKERS: '1', RETRY_DELAYS: '0s' },
      })
    const [building, waiting] = [await commitTo('acme/left', gate), await commitTo('acme/left-waiting')]
    const dying = await start('dying')
    const id = await world.push(dying, building)
    await gate.arrival()
    // It is busy itself, so builds that the other process has accepted wait there.
    const other = await start('other')
    await using busy = await startGate()
    const busyWith = await commitTo('acme/busy', busy)
    await world.push(other, busyWith)
    await busy.arrival()
    const waitingId = await world.push(dying, waiting)
    await dying.kill('SIGKILL')

    gate.open()
    busy.open()
    for (const commit of [busyWith, waiting, building]) {
      expect(await finalStatus(commit)).toMatchObject({ state: 'success' })
    }
    expect(await buildOf(other, waitingId)).toMatchObject({ state: 'succeeded' })
    // It was alone in its process, so the attempt counts.
    expect(await buildLog(other, id)).toContain('\nattempt 2 of 2\n')
  })
})

describe.concurrent('of two builds on one worker, only the one that kills it again is given up', () => {
  test('with the queue in Postgres', async ({ expect }) => {
    await onlyTheDeadly(expect, 'postgres', {
      DATABASE_URL: await postgres.database(),
      QUEUE: 'postgres://',
    })
  })

  test('with the queue in SQS', async ({ expect }) => {
    const queue = await aws.queue({ visibilitySeconds: 30, maxReceives: 20 })
    await onlyTheDeadly(expect, 'sqs', {
      ...aws.env,
      DATABASE_URL: await postgres.database(),
      QUEUE: 'sqs://',
      SQS_QUEUE_URL: queue.url,
    })
  })
})

/** Builds get one attempt each: a build that is charged with a crash is given up. */
async function onlyTheDeadly(expect: ExpectStatic, name: string, more: NodeJS.ProcessEnv): Promise<void> {
  await using deadly = await startGate()
  await using harmless = await startGate()
  const [bad, good] = [await commitTo(`${name}/deadly`, deadly), await commitTo(`${name}/harmless`, harmless)]
  const env = { ...more, RETRY_DELAYS: 'none' }
  await using server = await world.startServer({ env })
  await using fleet = await startFleet(world, 1, env, ['--workers', '2', '--build.network', 'host'])
  const badId = await world.push(server, bad)
  const goodId = await world.push(server, good)
  await Promise.all([deadly.arrival(), harmless.arrival()])
  const [worker] = fleet.workers
  await worker?.kill()

  // From here on, each is built alone, whichever comes first.
  harmless.open()
  await deadly.arrival()
  // If the harmless one came first, its status is set; killed before that is recorded, the worker would set it again.
  const store = await postgresBuildStore({ url: String(more.DATABASE_URL) })
  await expect.poll(() => store.unreported()).toEqual([])
  await store.close()
  await worker?.kill()

  const status = await finalStatus(bad)
  expect(status).toMatchObject({ state: 'error' })
  expect(await buildOf(server, badId)).toMatchObject({
    state: 'failed',
    error: expect.stringMatching(
      /^gave up building .* after 1 attempt: the process that ran the last one died/,
    ),
  })
  expect(await finalStatus(good)).toMatchObject({ state: 'success' })
  expect(await buildOf(server, goodId)).toMatchObject({ state: 'succeeded', error: null })
  expect(finalStates(good)).toEqual(['success'])
  expect(fleet.output()).toContain('runs alone: its process died while running several builds')
}
