import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { startAws } from '../../test/support/aws/aws.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { projectRoot } from '../../test/support/processes.ts'
import { say } from '../support/run.ts'
import { makeHistories } from './history.ts'
import { type Fleet, processesOf, runStep, type Step, type StepFigures } from './step.ts'
import { detailLines, kindOf, simulationTables, tableLines } from './table.ts'

const HELP = `Simulates a fleet with a real queue, store and workers, but with builds that only sleep.

--queues A,B     of postgres, postgres+logs (build logs in the database, too), sqs [all]
--rates A,B      builds per minute; 0: idle workers [0,10,100,334,1000,3000,6000]
--workers N      workers in the fleet [500]
--busy N         workers that build, at 334 builds per minute and above [350]
--seconds N      how long to measure each rate, after 25 s of warming up [60]
--history N      builds that the store already contains [100000]
--concurrency N  workers per process, as with conveyor worker --workers [1]
--simulators N   real processes that simulate those of the fleet [4]
--json FILE      results file [.conveyor/bench/simulation.json]
--add            keep results in the file for other queues, fleets and rates

Rates of a queue are skipped once the median wait, of requests or of builds, exceeds 5 seconds.
`

/** The results of one run of the simulation. */
export interface SimulationResults {
  /** Start time, in ISO 8601. */
  date: string
  cores: number
  fleet: Fleet
  history: number
  steps: StepFigures[]
}

const QUEUES: Record<string, Pick<Step, 'queue' | 'logs'>> = {
  postgres: { queue: 'postgres', logs: 'elsewhere' },
  'postgres+logs': { queue: 'postgres', logs: 'database' },
  sqs: { queue: 'sqs', logs: 'elsewhere' },
}
/** A queue that is this far behind does not recover at a higher rate. */
const TOO_LONG_MS = 5000

const { values } = parseArgs({
  options: {
    queues: { type: 'string', default: Object.keys(QUEUES).join(',') },
    rates: { type: 'string', default: '0,10,100,334,1000,3000,6000' },
    workers: { type: 'string', default: '500' },
    busy: { type: 'string', default: '350' },
    seconds: { type: 'string', default: '60' },
    history: { type: 'string', default: '100000' },
    concurrency: { type: 'string', default: '1' },
    simulators: { type: 'string', default: '4' },
    add: { type: 'boolean', default: false },
    json: { type: 'string', default: join(projectRoot, '.conveyor/bench/simulation.json') },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(HELP)
else await main()

async function main(): Promise<void> {
  const fleet: Fleet = {
    workers: whole('workers'),
    busy: whole('busy'),
    concurrency: whole('concurrency'),
    simulators: whole('simulators'),
    settleSeconds: 25,
    seconds: whole('seconds'),
  }
  const rates = values.rates.split(',').map((rate) => asWhole('rates', rate))
  const kinds = values.queues.split(',').map((name) => {
    const kind = QUEUES[name]
    if (!kind) throw new Error(`--queues ${name}: expected ${Object.keys(QUEUES).join(', ')}`)
    return kind
  })
  await using resources = new AsyncDisposableStack()
  // Commits wait for the disk, as in production. Each process may have 11 connections, and more while it publishes.
  const settings = { max_connections: '4000', shared_preload_libraries: 'pg_stat_statements' }
  const postgres = resources.use(await startPostgres({ fsync: true, settings }))
  const aws = resources.use(await startAws())
  const history = whole('history')
  say(`creating a store with ${history} builds`)
  const histories = resources.use(await makeHistories(postgres, history))

  const earlier = values.add
    ? (JSON.parse(await readFile(values.json, 'utf8')) as SimulationResults).steps
    : []
  const processes = processesOf(fleet)
  const replaced = new Set(
    kinds.flatMap((kind) =>
      rates.map((perMinute) => `${kindOf({ ...kind, perMinute, processes })} ${perMinute}`),
    ),
  )
  const steps = earlier.filter((step) => !replaced.has(`${kindOf(step)} ${step.perMinute}`))
  const results: SimulationResults = {
    ...{ date: new Date().toISOString(), cores: cpus().length },
    ...{ fleet, history, steps },
  }
  for (const kind of kinds) {
    for (const perMinute of rates) {
      say(`${kind.queue}, logs ${kind.logs}: ${perMinute} builds a minute`)
      const figures = await runStep({ ...kind, perMinute }, fleet, { postgres, histories, aws })
      steps.push(figures)
      await mkdir(dirname(values.json), { recursive: true })
      await writeFile(values.json, `${JSON.stringify(results, null, 2)}\n`)
      for (const line of [...figures.problems.first, ...detailLines(figures)]) say(`  ${line}`)
      if (Math.max(figures.waitMs?.p50 ?? 0, figures.acceptMs?.p50 ?? 0) > TOO_LONG_MS) break
    }
  }
  process.stdout.write(`${simulationTables(steps).flatMap(tableLines).join('\n')}\n`)
}

function whole(flag: 'workers' | 'busy' | 'concurrency' | 'simulators' | 'seconds' | 'history'): number {
  return asWhole(flag, values[flag])
}

function asWhole(flag: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`--${flag} ${text}: expected a whole number`)
  return Number(text)
}
