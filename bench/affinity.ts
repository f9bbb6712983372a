import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { postgresQueue } from '../src/lib/queue/postgres/queue.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { projectRoot } from '../test/support/processes.ts'
import type { AffinityCase, AffinityOutcome, AffinityResults } from './report/affinity-results.ts'
import { affinityTable } from './report/affinity-table.ts'
import { tableLines } from './simulation/table.ts'
import { say } from './support/run.ts'

const HELP = `How many builds land on a worker that is warm for their repository, with affinity and without.

--builds N     builds in each case [300]
--caches A,B   for how many of the 8 repositories a worker stays warm [2,4]
--json FILE    results file [.conveyor/bench/affinity.json]

4 workers share a queue in Postgres. A build takes 0.26 s on a warm worker and 1.3 s on a cold one. That is a tenth of
real build times, so the times of the queue are scaled to a tenth, too. In each case, the same pushes arrive at the same
times with affinity and without. All cases of a cache size run in parallel.
`

const WORKERS = 4
const REPOSITORIES = 8
const WARM_SECONDS = 0.26
const COLD_FACTOR = 5
/** All times are scaled down by this factor. */
const PACE = 10
/** The queue's default settings. */
const QUEUE = { affinitySeconds: 3, headStartSeconds: 30 }

/** Relative number of pushes to each repository. */
const SHARES: Record<AffinityCase['arrivals'], number[]> = {
  uniform: Array.from({ length: REPOSITORIES }, () => 1),
  zipf: Array.from({ length: REPOSITORIES }, (_, rank) => 1 / (rank + 1)),
}

interface Push {
  /** Seconds from the beginning. */
  at: number
  repository: string
}

/** The repositories whose layers a worker has: those that it built last. */
class Cache {
  #names: string[] = []
  readonly #size: number

  constructor(size: number) {
    this.#size = size
  }

  list(): string[] {
    return this.#names
  }

  /** @returns whether it was cached; it is from now on */
  use(repository: string): boolean {
    const warm = this.#names.includes(repository)
    this.#names = [repository, ...this.#names.filter((name) => name !== repository)].slice(0, this.#size)
    return warm
  }
}

function anyRepository(shares: number[]): string {
  let left = Math.random() * shares.reduce((sum, share) => sum + share, 0)
  const index = shares.findIndex((share) => {
    left -= share
    return left <= 0
  })
  return `acme/app-${index}`
}

/** Mean build time without affinity, in seconds; simulated with 20,000 builds. */
function meanWithout(shares: number[], cache: number): number {
  const workers = Array.from({ length: WORKERS }, () => new Cache(cache))
  const builds = Array.from({ length: 20_000 }, () => {
    const worker = workers[Math.floor(Math.random() * WORKERS)]
    return worker?.use(anyRepository(shares)) ? 1 : COLD_FACTOR
  })
  return (WARM_SECONDS * builds.reduce((sum, build) => sum + build, 0)) / builds.length
}

function pushesOf({ arrivals, load, cache, builds }: Omit<AffinityCase, 'with' | 'without'>): Push[] {
  const shares = SHARES[arrivals]
  const gap = meanWithout(shares, cache) / (WORKERS * load)
  let at = 0
  return Array.from({ length: builds }, () => {
    at += -Math.log(1 - Math.random()) * gap
    return { at, repository: anyRepository(shares) }
  })
}

/** Runs the pushes through a new queue. */
async function through(
  pushes: Push[],
  cache: number,
  affinity: boolean,
  url: string,
): Promise<AffinityOutcome> {
  const settings = {
    affinitySeconds: affinity ? QUEUE.affinitySeconds / PACE : 0,
    headStartSeconds: QUEUE.headStartSeconds / PACE,
  }
  const open = () => postgresQueue({ url, connections: 2, ...settings })
  const server = await open()
  const workers = await Promise.all(Array.from({ length: WORKERS }, open))
  const stop = new AbortController()
  const pushed = new Map<string, Push & { from: number }>()
  const seconds: number[] = []
  let warm = 0

  const working = workers.map(async (queue) => {
    const layers = new Cache(cache)
    for (;;) {
      const job = await queue.receive(stop.signal, affinity ? { warm: layers.list() } : {})
      if (!job) return
      const push = pushed.get(job.buildId)
      if (!push) throw new Error(`build ${job.buildId} was never pushed`)
      const isWarm = layers.use(push.repository)
      await sleep(WARM_SECONDS * 1000 * (isWarm ? 1 : COLD_FACTOR))
      await job.acknowledge()
      if (isWarm) warm += 1
      seconds.push(((performance.now() - push.from) / 1000) * PACE)
      if (seconds.length === pushes.length) stop.abort()
    }
  })
  const began = performance.now()
  for (const [i, push] of pushes.entries()) {
    await sleep(Math.max(0, began + push.at * 1000 - performance.now()))
    pushed.set(`${i}`, { ...push, from: performance.now() })
    await server.send({ buildId: `${i}`, repository: push.repository })
  }
  await Promise.all(working)
  await Promise.all([server, ...workers].map((queue) => queue.close()))
  const sorted = seconds.toSorted((a, b) => a - b)
  return {
    warm: warm / pushes.length,
    mean: seconds.reduce((sum, second) => sum + second, 0) / seconds.length,
    p95: sorted[Math.floor(sorted.length * 0.95)] ?? 0,
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      builds: { type: 'string', default: '300' },
      caches: { type: 'string', default: '2,4' },
      json: { type: 'string', default: join(projectRoot, '.conveyor/bench/affinity.json') },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) process.stdout.write(HELP)
  else await measure(Number(values.builds), values.caches.split(',').map(Number), values.json)
}

async function measure(builds: number, caches: number[], file: string): Promise<void> {
  if (![builds, ...caches].every((number) => Number.isInteger(number) && number > 0)) throw new Error(HELP)
  await using postgres = await startPostgres({ settings: { max_connections: '400' } })
  const results: AffinityResults = { date: new Date().toISOString(), cases: [] }
  for (const cache of caches) {
    say(`measuring workers that stay warm for ${cache} of ${REPOSITORIES} repositories`)
    const cases = (['uniform', 'zipf'] as const).flatMap((arrivals) =>
      [0.5, 0.85].map((load) => ({ arrivals, load, cache, builds })),
    )
    const measured = cases.map(async (one): Promise<AffinityCase> => {
      const pushes = pushesOf(one)
      const [without, withIt] = await Promise.all(
        [false, true].map(async (affinity) => through(pushes, cache, affinity, await postgres.database())),
      )
      if (!without || !withIt) throw new Error('expected two outcomes')
      return { ...one, without, with: withIt }
    })
    results.cases.push(...(await Promise.all(measured)))
  }
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`)
  process.stdout.write(`${tableLines(affinityTable(results.cases)).join('\n')}\n`)
}
