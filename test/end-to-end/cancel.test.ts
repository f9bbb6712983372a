import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { startAws } from '../support/aws/aws.ts'
import { engine } from '../support/global-setup.ts'
import { makeBuilderImage } from '../support/images/builder-images.ts'
import { startPostgres } from '../support/postgres.ts'
import { type ConveyorServer, runningCount, spawnConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** Builds are cancelled while the engine works on them: the step's process ends, and the worker takes the next one. */

const IMAGE = `conveyor-test/sleeping-builder:${process.pid}`

/** A new one for each test: what one test leaves behind must not be the next one's work. */
let world: World
beforeEach(async () => {
  world = await startWorld({ env: { WARM: '0' } })
})
afterEach(() => world[Symbol.asyncDispose]())
beforeAll(async () => {
  const script = 'echo "sleeping in $REPOSITORY"\nexec sleep "$(basename "$REPOSITORY")"\n'
  await makeBuilderImage(engine().docker, IMAGE, { script })
})
afterAll(() => engine().docker.getImage(IMAGE).remove({ force: true }))

let seconds = 3_000_000 + (process.pid % 100_000)

/** A commit whose build sleeps for a time that no other process does. */
async function sleeper(name?: string) {
  seconds += 100_000
  const command = `sleep ${seconds}`
  const repository = name ?? `acme/${seconds}`
  const git = await world.git.create(repository)
  const sha = await git.commit({ Dockerfile: `FROM conveyor-test/busybox:1\nRUN ${command}\n` })
  return { repository, sha, command }
}

async function build(server: ConveyorServer, id: string): Promise<BuildJson> {
  return (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson
}

async function cancel(server: ConveyorServer, id: string): Promise<number> {
  return (await fetch(`${server.url}/builds/${id}/cancel`, { method: 'POST' })).status
}

/** Everything that people see of a cancelled build. */
async function expectCancelled(server: ConveyorServer, id: string, sha: string): Promise<void> {
  // Another build of the commit may have been cancelled, too.
  const status = await world.github.waitForStatus(
    (one) => one.target_url?.endsWith(`/builds/${id}`) === true && one.state === 'error',
    55_000,
  )
  const ended = await build(server, id)
  expect(ended).toMatchObject({ state: 'cancelled', error_kind: 'cancelled', image: null })
  expect(ended.error).toMatch(/^cancelled by \S+$/)
  const by = ended.error?.replace('cancelled by ', '')
  expect(status).toMatchObject({
    sha,
    description: `Cancelled by ${by}.`,
  })
  expect(await buildLog(server, id)).toMatch(new RegExp(`(^|\n)cancelled by ${by}\n$`))
}

/** Cancels what runs and what waits behind it; the only worker then builds another commit. */
async function cancelBoth(server: ConveyorServer): Promise<void> {
  const [first, second] = [await sleeper(), await sleeper()]
  const id = await world.push(server, first)
  await expect.poll(() => runningCount(first.command)).toBe(1)
  const waiting = await world.push(server, second)
  expect(await cancel(server, waiting)).toBe(200)
  await expectCancelled(server, waiting, second.sha)

  expect(await cancel(server, id)).toBe(202)
  await expect.poll(() => runningCount(first.command)).toBe(0)
  await expectCancelled(server, id, first.sha)
  expect(await world.digest(first.repository, 'main')).toBeNull()
  expect(await cancel(server, id)).toBe(409)
  expect(await runningCount(second.command)).toBe(0)
}

async function expectFree(
  server: ConveyorServer,
  repository: string,
  files: Record<string, string>,
): Promise<void> {
  const git = await world.git.create(repository)
  const sha = await git.commit(files)
  const id = await world.push(server, { repository, sha })
  await expect.poll(async () => (await build(server, id)).state).toBe('succeeded')
}

const SMALL = { Dockerfile: 'FROM conveyor-test/busybox:1\nCOPY . /app\n' }

describe('a cancelled build', () => {
  test('in the engine', async () => {
    await using server = await world.startServer({ flags: ['--workers', '1'] })
    await cancelBoth(server)
    await expectFree(server, 'acme/free', SMALL)
  })

  test('in a container of a builder image, which is removed', async () => {
    const flags = ['--workers', '1', '--builder.image', IMAGE, '--builder.data', 'none']
    await using server = await world.startServer({ flags })
    await cancelBoth(server)
    const containers = await engine().docker.listContainers({ all: true, filters: { ancestor: [IMAGE] } })
    expect(containers).toEqual([])
  })

  test.each(['Postgres', 'SQS'])('in a worker on another queue: %s', async (kind) => {
    await using postgres = await startPostgres()
    await using aws = await startAws()
    await using folder = await tempDir('conveyor-worker-')
    const sqs = { ...aws.env, QUEUE: 'sqs://', SQS_QUEUE_URL: (await aws.queue()).url }
    const queue = kind === 'SQS' ? sqs : { QUEUE: 'postgres://' }
    const env = { DATABASE_URL: await postgres.database(), ...queue }
    await using server = await world.startServer({ env })
    await using worker = await spawnConveyor(['worker', '--workers', '1'], {
      env: { ...world.env, ...env, DATA_DIR: folder.path },
    })
    await cancelBoth(server)
    await expectFree(server, 'acme/free-elsewhere', SMALL)
    await worker.kill('SIGTERM')
  })

  test('of a worker that dies is ended by the next one, without building it', async () => {
    const { repository, sha, command } = await sleeper()
    const before = await world.startServer()
    const id = await world.push(before, { repository, sha })
    await expect.poll(() => runningCount(command)).toBe(1)
    expect(await cancel(before, id)).toBe(202)
    await before.kill('SIGKILL')
    await using after = await world.startServer()
    await expectCancelled(after, id, sha)
    await expect.poll(() => runningCount(command)).toBe(0)
    expect(await buildLog(after, id)).not.toContain('attempt 2')
  })

  test('does not keep a new push of its commit from being built', async () => {
    await using server = await world.startServer({ flags: ['--workers', '2'] })
    const { repository, sha, command } = await sleeper()
    const id = await world.push(server, { repository, sha })
    await expect.poll(() => runningCount(command)).toBe(1)
    expect(await cancel(server, id)).toBe(202)
    const again = await world.push(server, { repository, sha, branch: 'again' })
    expect(again).not.toBe(id)
    await expect.poll(async () => (await build(server, id)).state).toBe('cancelled')
    await expect.poll(() => runningCount(command)).toBe(1)
    expect(await build(server, again)).toMatchObject({ state: 'building', branch: 'again' })
    await cancel(server, again)
    await expectCancelled(server, again, sha)
  })
})
