import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { projectRoot } from '../test/support/processes.ts'
import { burstLines, measureBurst } from './burst.ts'
import { cacheExportLines, measureCacheExport } from './cache-export.ts'
import { cliLines, measureCli } from './cli.ts'
import { CONTENDERS, measureFlows } from './flows.ts'
import { limitLines, measureLimit } from './limit.ts'
import { listsLines, measureLists } from './lists/lists.ts'
import { measureMemory, memoryLines } from './memory.ts'
import { writeReport } from './report/report.ts'
import { describeMachine, type Results } from './report/results.ts'
import { flowLines } from './report/table.ts'
import { SCENARIOS } from './scenarios.ts'
import { say } from './support/run.ts'
import { startWorld } from './support/world.ts'

const PARTS = ['flows', 'limit', 'cache-export', 'burst', 'memory', 'cli', 'lists']
const ENOUGH_RUNS = 5

const HELP = `Measures how long it takes from a push to an image, with Conveyor and with its alternatives.

--runs N           measured runs of each scenario and contender [5]
--scenarios A,B    of ${SCENARIOS.map(({ id }) => id).join(', ')} [all]
--contenders A,B   of ${Object.keys(CONTENDERS).join(', ')} [all]
--parts A,B        of ${PARTS.join(', ')} [all]
--json FILE        results file [.conveyor/bench/results.json]

A run of everything with at least ${ENOUGH_RUNS} runs also updates docs/benchmarks.md. After any other run, use
node bench/report/report.ts.
`

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: String(ENOUGH_RUNS) },
    scenarios: { type: 'string' },
    contenders: { type: 'string' },
    parts: { type: 'string' },
    json: { type: 'string', default: join(projectRoot, '.conveyor/bench/results.json') },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(HELP)
else await main()

async function main(): Promise<void> {
  const runs = Number(values.runs)
  if (!Number.isInteger(runs) || runs < 1)
    throw new Error(`--runs ${values.runs}: expected a positive whole number`)
  const all = SCENARIOS.map(({ id }) => id)
  const ids = choose('scenarios', values.scenarios, all)
  const names = choose('contenders', values.contenders, Object.keys(CONTENDERS))
  const parts = choose('parts', values.parts, PARTS)

  // Everything that was started is stopped on exit, and its disks are unmounted.
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      say(`${name}: stopping after this run. Repeat it to stop immediately.`)
      stop.abort(new Error('the benchmark was interrupted'))
    })
  }
  const logs = join(projectRoot, '.conveyor/bench/logs')
  await rm(logs, { recursive: true, force: true })
  await mkdir(logs, { recursive: true })

  await using world = await startWorld()
  const results: Results = {
    date: new Date().toISOString(),
    machine: await describeMachine(world.fileSystem),
    runs,
  }
  const lines: string[] = []
  for (const part of parts) {
    stop.signal.throwIfAborted()
    say(`measuring ${part}`)
    if (part === 'flows') {
      const scenarios = SCENARIOS.filter(({ id }) => ids.includes(id))
      const contenders = Object.entries(CONTENDERS).flatMap(([name, it]) =>
        names.includes(name) ? [it] : [],
      )
      const options = { contenders, scenarios, runs, logs, signal: stop.signal }
      results.flows = await measureFlows(world, options)
      lines.push(...flowLines(results.flows), '')
    } else if (part === 'limit') {
      results.limit = await measureLimit(world, runs)
      lines.push(...limitLines(results.limit), '')
    } else if (part === 'cache-export') {
      results.cacheExport = await measureCacheExport(world, { runs, logs, signal: stop.signal })
      lines.push(...cacheExportLines(results.cacheExport), '')
    } else if (part === 'burst') {
      results.burst = await measureBurst(world)
      lines.push(...burstLines(results.burst), '')
    } else if (part === 'memory') {
      results.memory = await measureMemory(world)
      lines.push(...memoryLines(results.memory), '')
    } else if (part === 'lists') {
      results.lists = await measureLists()
      lines.push(...listsLines(results.lists), '')
    } else {
      results.cli = await measureCli()
      lines.push(...cliLines(results.cli), '')
    }
    await mkdir(dirname(values.json), { recursive: true })
    await writeFile(values.json, `${JSON.stringify(results, null, 2)}\n`)
  }
  process.stdout.write(`\n${lines.join('\n')}\n`)

  const complete = ids.length === all.length && names.length === Object.keys(CONTENDERS).length
  if (complete && parts.length === PARTS.length && runs >= ENOUGH_RUNS) {
    await writeReport(results)
    say('updated docs/benchmarks.md')
  }
}

/** The names in a flag, in the order of `all`; all of them if the flag is missing. */
function choose(flag: string, given: string | undefined, all: string[]): string[] {
  if (given === undefined) return all
  const names = given.split(',')
  const wrong = names.filter((name) => !all.includes(name))
  if (wrong.length > 0) throw new Error(`--${flag} ${wrong.join(',')}: expected ${all.join(', ')}`)
  return all.filter((name) => names.includes(name))
}
