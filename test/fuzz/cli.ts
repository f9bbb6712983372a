import { parseArgs } from 'node:util'
import { type Reached, startCoverage, tableOf } from './coverage.ts'

const HELP = `npm run fuzz -- [options]

Feeds Conveyor inputs as strangers could make them: webhooks, orders, Dockerfiles, ignore files, trees, answers of
registries, streams of BuildKit. Ends with 1 when an input crashes something, holds the event loop for over 250 ms, or
takes over 400 MiB of memory; also when the inputs are ENOUGH or more and reach less than 90 % of a parser's lines.

  --inputs N     how many, of all kinds together (default 100000)
  --seed N       which (default 1)
  --kind NAME    only this kind; repeat it
  --only N       only the input with this index, of one kind
  --missed       tell the lines that no input reaches
`
/** Fewer inputs need not reach as much. */
const ENOUGH = 3000
const LEAST = 0.9
const LEAST_OF_KIND = 200

const { values } = parseArgs({
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

if (values.help) say(HELP.replace('ENOUGH', String(ENOUGH)))
else process.exitCode = (await fuzz()) ? 0 : 1

/** Whether all went well. */
async function fuzz(): Promise<boolean> {
  const coverage = await startCoverage()
  const { KINDS } = await import('./kinds/index.ts')
  const { runKind } = await import('./run.ts')
  const names = values.kind.length > 0 ? values.kind : Object.keys(KINDS)
  const kinds = names.map((name) => {
    const kind = KINDS[name]
    if (!kind) throw new Error(`--kind ${name}: expected ${Object.keys(KINDS).join(', ')}`)
    return { name, kind }
  })
  const seed = whole('seed', values.seed)
  const inputs = whole('inputs', values.inputs)
  const shares = kinds.reduce((sum, { kind }) => sum + kind.share, 0)
  let [tried, findings, longest] = [0, 0, 0]
  const begun = performance.now()
  for (const { name, kind } of kinds) {
    const share = Math.ceil((inputs * kind.share) / shares)
    const count = inputs < ENOUGH ? share : Math.max(share, LEAST_OF_KIND)
    const plan =
      values.only === undefined ? { from: 0, count } : { from: whole('only', values.only), count: 1 }
    const outcome = await runKind(name, kind, { seed, ...plan })
    tried += outcome.inputs
    findings += outcome.findings.length
    longest = Math.max(longest, outcome.longestMs)
    const held = `longest ${Math.round(outcome.longestMs)} ms (input ${outcome.longest})`
    say(
      `${name}: ${outcome.inputs} inputs, ${outcome.seconds.toFixed(1)} s, ${held}, ${memory()} ${outcome.figures}`,
    )
    for (const { index, what, input } of outcome.findings.slice(0, 3)) {
      say(`  --kind ${name} --seed ${seed} --only ${index}: ${what}\n    ${input}`)
    }
  }
  const reached = await coverage.of(kinds.flatMap(({ kind }) => kind.parsers))
  const few = tried >= ENOUGH ? reached.filter(isTooLittle) : []
  for (const line of tableOf(reached, values.missed)) say(line)
  const seconds = Math.round((performance.now() - begun) / 1000)
  say(`${tried} inputs in ${seconds} s, longest ${Math.round(longest)} ms, ${memory()}, ${findings} findings`)
  for (const { file } of few) say(`too little of ${file} is reached`)
  return findings === 0 && few.length === 0
}

function isTooLittle({ lines, reached }: Reached): boolean {
  return reached < LEAST * lines
}

function memory(): string {
  return `${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`
}

function whole(name: string, value: string): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${name} ${value}: expected a whole number`)
  return number
}
