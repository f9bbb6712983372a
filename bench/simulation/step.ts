import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { TestAws } from '../../test/support/aws/aws.ts'
import type { TestPostgres } from '../../test/support/postgres.ts'
import { percentile } from '../report/stats.ts'
import { Child, type ProcessFigures } from './child.ts'
import { cpuSeconds, type DatabaseFigures, DatabaseWatch } from './database.ts'
import type { Histories } from './history.ts'
import { scaleFor } from './mix.ts'
import type { Place } from './opened.ts'
import type { PushesFigures, PushesOrder } from './pushes.ts'
import type { WorkersOrder } from './workers.ts'

/** One load, held for a while. */
export interface Step {
  queue: 'postgres' | 'sqs'
  logs: Place['logs']
  /** Pushes; 0: the workers only wait. */
  perMinute: number
}

export interface Fleet {
  /** Builds that may run at a time. */
  workers: number
  /** How many of them each process of the fleet has. */
  concurrency: number
  /** How many of them build, at 20,000 builds per hour and above. */
  busy: number
  /** Number of real processes that simulate those of the fleet. */
  simulators: number
  /** Before the measurement. */
  settleSeconds: number
  seconds: number
}

/** Milliseconds. */
export interface Percentiles {
  p50: number
  p95: number
  p99: number
}

export interface StepFigures extends Step {
  /** `conveyor worker` processes in the fleet. */
  processes: number
  /** How many times longer than in the benchmark the builds took. */
  scale: number
  seconds: number
  accepted: number
  ended: number
  /** Workers that were building at the end. */
  building: number
  /** From the acceptance of a request until a worker took it, or until the end if none did. */
  waitMs: Percentiles | null
  /** Accepted, but not taken by a worker at the end. */
  waiting: number
  /** Builds with more than one attempt. */
  repeated: number
  acceptMs: Percentiles | null
  database: DatabaseFigures
  /** Requests by all processes, by what they were; empty without SQS. */
  sqsRequests: Record<string, number>
  /** Of the SQS server here, as a share of one core; null without. */
  sqsCores: number | null
  /** The simulation itself: its CPU as a share of one core, and how late its timers came at worst (p99, ms). */
  simulator: { cores: number; loopDelayP99: number }
  /** Problems that Conveyor reported: how many, and the first few. */
  problems: { count: number; first: string[] }
}

/** How many `conveyor worker` processes a fleet has. */
export function processesOf({ workers, concurrency }: Fleet): number {
  return Math.ceil(workers / concurrency)
}

/** Runs one step on new databases and queues, and cleans up. */
export async function runStep(
  step: Step,
  fleet: Fleet,
  { postgres, histories, aws }: { postgres: TestPostgres; histories: Histories; aws: TestAws },
): Promise<StepFigures> {
  const { url, name } = await histories.copy()
  await using resources = new AsyncDisposableStack()
  resources.defer(() => histories.drop(name))
  const watch = resources.use(await DatabaseWatch.open(postgres, histories.aside, name))
  const sqs = step.queue === 'sqs' ? { url: (await aws.queue()).url, config: aws.clientConfig } : null
  const place: Place = { url, sqs, logs: step.logs }
  const scale = scaleFor(step.perMinute, fleet.busy)

  const { concurrency } = fleet
  const processes = processesOf(fleet)
  const workers = Array.from({ length: fleet.simulators }, (_, i) => {
    const share = Math.floor((processes + i) / fleet.simulators)
    const order: WorkersOrder = { place, processes: share, concurrency }
    return resources.use(new Child<ProcessFigures>('workers.ts', order))
  })
  const running = step.perMinute === 0 ? 0 : Math.min(fleet.busy, (step.perMinute / 60) * scale * 3)
  const order: PushesOrder = { place, perMinute: step.perMinute, scale, running: Math.round(running) }
  const pushes = resources.use(new Child<ProcessFigures & PushesFigures>('pushes.ts', order))
  const all = [...workers, pushes]
  await Promise.all(workers.map((child) => child.ask('start')))
  await pushes.ask('start')
  await sleep(fleet.settleSeconds * 1000)

  const from = Date.now()
  await Promise.all(all.map((child) => child.ask('begin')))
  await watch.begin()
  const sqsCpu = sqs ? await cpuSeconds(aws.pid) : 0
  await sleep(fleet.seconds * 1000)
  const database = await watch.end()
  const seconds = (Date.now() - from) / 1000
  const sqsCores = sqs ? ((await cpuSeconds(aws.pid)) - sqsCpu) / seconds : null
  const accepting = await pushes.ask('end')
  const used = [accepting, ...(await Promise.all(workers.map((child) => child.ask('end'))))]

  const builds = await buildFigures(url, from)
  const requests: Record<string, number> = {}
  for (const { sqsRequests } of used)
    for (const [what, count] of Object.entries(sqsRequests)) requests[what] = (requests[what] ?? 0) + count
  const problems = used.flatMap(({ problems }) => problems)
  return {
    ...step,
    ...{ processes, scale, seconds, database, sqsCores, sqsRequests: requests },
    ...builds,
    acceptMs: percentiles(accepting.acceptMs),
    simulator: {
      cores: used.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) / seconds,
      loopDelayP99: Math.max(...used.map(({ loopDelayP99 }) => loopDelayP99)),
    },
    problems: { count: problems.length, first: problems.slice(0, 5) },
  }
}

interface BuildRow {
  created_at: string
  started_at: string | null
}

/** What the store knows of the builds since then. */
async function buildFigures(url: string, since: number) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const now = Date.now()
    const from = new Date(since).toISOString()
    const { rows } = await client.query<BuildRow>(
      'select created_at, started_at from builds where created_at >= $1',
      [from],
    )
    const counted = await client.query<Record<'ended' | 'building' | 'waiting' | 'repeated', number>>(
      `select count(*) filter (where completed_at >= $1)::int as ended,
         count(*) filter (where state = 'building')::int as building,
         count(*) filter (where state = 'pending')::int as waiting,
         count(*) filter (where attempt > 1)::int as repeated
       from builds`,
      [from],
    )
    const waits = rows.map(
      ({ created_at, started_at }) =>
        (started_at === null ? now : Date.parse(started_at)) - Date.parse(created_at),
    )
    const counts = counted.rows[0]
    if (!counts) throw new Error('the aggregate query returned no row')
    return { accepted: rows.length, waitMs: percentiles(waits), ...counts }
  } finally {
    await client.end()
  }
}

function percentiles(numbers: number[]): Percentiles | null {
  if (numbers.length === 0) return null
  const [p50 = 0, p95 = 0, p99 = 0] = [50, 95, 99].map((percent) => percentile(numbers, percent))
  return { p50, p95, p99 }
}
