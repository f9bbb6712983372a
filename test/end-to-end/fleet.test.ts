import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, type ExpectStatic, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { isEnded } from '../../src/lib/core/build.ts'
import { startAws, type TestAws } from '../support/aws/aws.ts'
import { startFleet } from '../support/fleet.ts'
import { type RegistryFront, startRegistryFront } from '../support/gates.ts'
import { imageConfig } from '../support/images/pushed-image.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type ConveyorServer, spawnConveyor } from '../support/processes.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** A server and two workers whose processes are killed again and again, and whose queue is unavailable for a while. */

const REPOSITORIES = 4
const PUSHES = 5
const KILL_EVERY_MS = 4000
/** A maximum, so that the test ends even on a machine where workers barely start within that time. */
const KILLS = 12
const AWAY_MS = 20_000
/** The number of lines that every build's RUN step prints. */
const LINES = 20
/** The label with the number of an image's push, among those of its repository. */
const NUMBER = 'number'

let world: World
let front: RegistryFront
/** One for each test, because the second test stops its database. */
let databases: [TestPostgres, TestPostgres]
let aws: TestAws
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  world = resources.use(await startWorld())
  front = resources.use(await startRegistryFront(world.registry.host))
  databases = [resources.use(await startPostgres()), resources.use(await startPostgres())]
  aws = resources.use(await startAws({ persist: true }))
})
afterAll(() => resources.disposeAsync())

interface Pushed {
  id: string
  repository: string
  sha: string
}

/** Builds of killed workers are retried as often as necessary. */
const settings = () => ({
  REGISTRY: front.host,
  RETRY_DELAYS: '0s,0s,0s,0s,0s,0s,0s,0s,0s,0s',
  WARM: '0',
})

async function pushAll(server: ConveyorServer, prefix: string): Promise<Pushed[]> {
  const pushed: Pushed[] = []
  const repositories = await Promise.all(
    Array.from({ length: REPOSITORIES }, async (_, i) => {
      const repository = `${prefix}/app-${i}`
      return { repository, git: await world.git.create(repository) }
    }),
  )
  const print = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; sleep 0.02; done`
  for (let i = 0; i < PUSHES; i++) {
    for (const { repository, git } of repositories) {
      const Dockerfile = `FROM conveyor-test/busybox:1\nCOPY . /app\nRUN ${print}\nLABEL ${NUMBER}=${i}\n`
      const sha = await git.commit({ Dockerfile, name: `${repository} ${i}` })
      pushed.push({ id: await world.push(server, { repository, sha }), repository, sha })
    }
  }
  return pushed
}

const build = async (server: ConveyorServer, { id }: Pushed) =>
  (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson

/** Kills one worker after another, and stops the queue once, until every build has ended. */
async function wreckUntilDone(
  server: ConveyorServer,
  pushed: Pushed[],
  parts: { kill: (turn: number) => Promise<void>; away: () => Promise<void>; back: () => Promise<void> },
): Promise<number> {
  const done = new AbortController()
  let kills = 0
  const killing = (async () => {
    while (!done.signal.aborted && kills < KILLS) {
      await sleep(KILL_EVERY_MS, undefined, { signal: done.signal }).catch(() => {}) // the loop checks the signal
      if (!done.signal.aborted) await parts.kill(kills++)
    }
  })()
  try {
    await sleep(KILL_EVERY_MS * 1.5)
    await parts.away()
    await sleep(AWAY_MS)
    await parts.back()
    for (const one of pushed) {
      while (!isEnded((await build(server, one)).state)) await sleep(200)
    }
  } finally {
    done.abort()
    await killing
  }
  return kills
}

/** Checks everything that a kill could have left broken. */
async function expectAllWhole(expect: ExpectStatic, server: ConveyorServer, pushed: Pushed[]): Promise<void> {
  const digests = new Map<string, string>()
  for (const one of pushed) {
    const { repository, sha } = one
    const { state, error, image } = await build(server, one)
    expect({ state, error }).toEqual({ state: 'succeeded', error: null })
    const digest = await world.digest(repository, sha)
    expect(image).toBe(`${front.host}/${repository}@${digest}`)
    digests.set(sha, String(digest))

    // If its worker was killed just before it set the status, a server does so about a minute later.
    await expect
      .poll(() => world.github.statuses.findLast((status) => status.sha === sha)?.state)
      .toBe('success')
    const log = await buildLog(server, one.id)
    expect(log.endsWith(`\nimage ${image}\n`)).toBe(true)
    // If an attempt was killed right after its step, the step is in the engine's cache.
    const last = log.slice(log.lastIndexOf('building '))
    const lines = [...last.matchAll(/ line (\d+)$/gm)].map(([, number]) => Number(number))
    const whole = Array.from({ length: LINES }, (_, i) => i + 1)
    expect(/ CACHED$/m.test(last) && lines.length === 0 ? whole : lines).toEqual(whole)
  }
  for (const repository of new Set(pushed.map((one) => one.repository))) {
    const order = pushed.filter((one) => one.repository === repository).map(({ sha }) => digests.get(sha))
    expect(new Set(order).size).toBe(PUSHES)
    for (const tag of ['main', 'latest']) {
      expect(await world.digest(repository, tag)).toBe(order.at(-1))
      const moves = front.tagged.filter((one) => one.repository === repository && one.tag === tag)
      // Not by the builds' digests: a worker can be killed after it moved the tag, and then the commit is built again.
      const numbers = await Promise.all(moves.map((move) => numberOf(repository, move.digest)))
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    }
  }
}

async function numberOf(repository: string, digest: string): Promise<number> {
  const { config } = await imageConfig(`${world.registry.host}/${repository}@${digest}`)
  const label = config.config.Labels?.[NUMBER]
  if (label === undefined) throw new Error(`${repository}@${digest} has no label ${NUMBER}`)
  return Number(label)
}

describe.concurrent('20 builds of 4 repositories on two workers that are killed every few seconds', () => {
  test('with the queue in SQS and logs in S3, which are down for 20 s', { timeout: 600_000 }, async ({
    expect,
  }) => {
    const queue = await aws.queue({ visibilitySeconds: 30, maxReceives: 20 })
    const env = {
      ...settings(),
      ...aws.env,
      DATABASE_URL: await databases[0].database(),
      QUEUE: 'sqs://',
      SQS_QUEUE_URL: queue.url,
      LOGGER: `s3://${await aws.bucket()}`,
    }
    await using server = await world.startServer({ env })
    await using fleet = await startFleet(world, 2, env, ['--workers', '2'])
    const begun = performance.now()
    const pushed = await pushAll(server, 'sqs')
    const kills = await wreckUntilDone(server, pushed, {
      kill: (turn) => fleet.workers[turn % 2]?.kill() ?? Promise.resolve(),
      away: () => aws.stop(),
      back: () => aws.start(),
    })
    report('SQS and S3', pushed, kills, begun)
    await expectAllWhole(expect, server, pushed)
  })

  test('with everything in Postgres, which is down for 20 s', { timeout: 600_000 }, async ({ expect }) => {
    const [, postgres] = databases
    const env = { ...settings(), DATABASE_URL: await postgres.database(), QUEUE: 'postgres://' }
    await using server = await world.startServer({ env })
    await using fleet = await startFleet(world, 2, env, ['--workers', '2'])
    const begun = performance.now()
    const pushed = await pushAll(server, 'postgres')
    const kills = await wreckUntilDone(server, pushed, {
      kill: (turn) => fleet.workers[turn % 2]?.kill() ?? Promise.resolve(),
      away: () => postgres.stop('SIGQUIT'),
      back: () => postgres.start(),
    })
    report('Postgres', pushed, kills, begun)
    await expectAllWhole(expect, server, pushed)
  })
})

function report(where: string, pushed: Pushed[], kills: number, begun: number): void {
  const seconds = ((performance.now() - begun) / 1000).toFixed(0)
  process.stdout.write(`${where}: ${pushed.length} builds ended in ${seconds} s, through ${kills} kills\n`)
}

test('a worker reports missing settings', async () => {
  const lonely = await spawnConveyor(['worker'], { env: world.env })
  expect((await lonely.exited).code).toBe(2)
  expect(lonely.stderr()).toContain('--queue (QUEUE) is memory://, which other processes cannot read')
})
