import { fork } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { isTooLittle, merged, type Reached, startCoverage, tableOf } from './coverage.ts'
import type { Outcome } from './run.ts'

const HELP = `npm run fuzz -- [options]

Feeds hostile input to Conveyor: webhooks, build requests, Dockerfiles, ignore files, trees, registry responses,
BuildKit streams. Each kind of input runs in its own process. Exits with status 1 if an input causes a crash, blocks the
event loop for more than 250 ms, or uses more than 400 MiB of memory. With ENOUGH inputs or more, it also fails if they
cover less than 90% of the lines of a parser.

  --inputs N     number of inputs of all kinds together (default 100000)
  --seed N       seed of the generator (default 1)
  --kind NAME    run only this kind; can be repeated
  --only N       run only the input with this index, of one kind
  --missed       list the lines that no input covers
`
/** With fewer inputs, coverage is not checked. */
const ENOUGH = 3000

/** Set in the environment of a child process that runs a single kind. */
const OF_ONE_KIND = 'FUZZ_ONE_KIND'
const isOfOneKind = process.env[OF_ONE_KIND] !== undefined

const { values, positionals } = parseArgs({
  allowPositionals: isOfOneKind,
  options: {
    inputs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    kind: { type: 'string', multiple: true, default: [] },
    only: { type: 'string' },
    missed: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const say = (line: string) => void process.stdout.write(`${line}\n`)

if (isOfOneKind) await ofOneKind(positionals)
else if (values.help) say(HELP.replace('ENOUGH', String(ENOUGH)))
else process.exitCode = (await fuzz()) ? 0 : 1

/** What the child process of a kind reports to its parent. */
interface Report {
  outcome: Outcome
  reached: Reached[]
}

/** @returns whether everything passed */
async function fuzz(): Promise<boolean> {
  const { KINDS } = await import('./kinds/index.ts')
  const names = values.kind.length > 0 ? values.kind : Object.keys(KINDS)
  const kinds = names.map((name) => {
    const kind = KINDS[name]
    if (!kind) throw new Error(`--kind ${name}: expected ${Object.keys(KINDS).join(', ')}`)
    return { name, ...kind }
  })
  const seed = whole('seed', values.seed)
  const inputs = whole('inputs', values.inputs)
  const shares = kinds.reduce((sum, { share }) => sum + share, 0)
  let [tried, findings, longest, memory] = [0, 0, 0, 0]
  let reached: Reached[] = []
  const begun = performance.now()
  for (const { name, share, least } of kinds) {
    const part = Math.ceil((inputs * share) / shares)
    const count = inputs < ENOUGH ? part : Math.max(part, least)
    const report = await inItsProcess([name, `${seed}`, `${count}`, values.only ?? ''])
    const { outcome } = report
    reached = merged(reached, report.reached)
    tried += outcome.inputs
    findings += outcome.findings.length
    longest = Math.max(longest, outcome.longestMs)
    memory = Math.max(memory, outcome.memory)
    const held = `longest ${Math.round(outcome.longestMs)} ms (input ${outcome.longest})`
    say(
      `${name}: ${outcome.inputs} inputs, ${outcome.seconds.toFixed(1)} s, ${held}, ${mib(outcome.memory)} ${outcome.figures}`,
    )
    for (const { index, what, input } of outcome.findings.slice(0, 3)) {
      say(`  --kind ${name} --seed ${seed} --only ${index}: ${what}\n    ${input}`)
    }
  }
  const few = tried >= ENOUGH ? reached.filter(isTooLittle) : []
  for (const line of tableOf(reached, values.missed)) say(line)
  const seconds = Math.round((performance.now() - begun) / 1000)
  say(
    `${tried} inputs in ${seconds} s, longest ${Math.round(longest)} ms, ${mib(memory)}, ${findings} findings`,
  )
  for (const { file } of few) say(`coverage of ${file} is too low`)
  return findings === 0 && few.length === 0
}

/** @throws Error if the process exits without a report */
async function inItsProcess(args: string[]): Promise<Report> {
  const child = fork(import.meta.filename, args, { env: { ...process.env, [OF_ONE_KIND]: '1' } })
  const messages: Report[] = []
  child.on('message', (message) => void messages.push(message as Report))
  const [code, signal] = await once(child, 'exit')
  const [report] = messages
  if (!report) throw new Error(`the process for ${args[0]} exited with ${signal ?? code} without a report`)
  return report
}

async function ofOneKind([name = '', seed, count, only]: string[]): Promise<void> {
  // Before the parsers are imported.
  const coverage = await startCoverage()
  const { KINDS } = await import('./kinds/index.ts')
  const { runKind } = await import('./run.ts')
  const kind = KINDS[name]
  if (!kind) throw new Error(`unknown kind: ${name}`)
  const range = only ? { from: whole('only', only), count: 1 } : { from: 0, count: Number(count) }
  const outcome = await runKind(name, kind, { seed: Number(seed), ...range })
  const report: Report = { outcome, reached: await coverage.of(kind.parsers) }
  await new Promise((resolve) => process.send?.(report, resolve))
  process.disconnect()
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}

function whole(name: string, value: string): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${name} ${value}: expected a whole number`)
  return number
}
