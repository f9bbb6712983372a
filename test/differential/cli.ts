import { parseArgs } from 'node:util'
import { type Exploration, explore, exploreMutants } from './explore.ts'
import { BUILDERS } from './surroundings.ts'

const HELP = `npm run differential -- [options]

Builds generated commits with Conveyor and with docker from a fresh checkout, and compares the images. It goes
on where the last run with the same seed has ended. Ends with 1 when images differ.

  --cases N        commits to build on each builder, those of earlier runs included (default 100)
  --builder NAME   ${BUILDERS.join(', ')}; repeat it (default: all, one after the other)
  --seed N         which histories (default 1)
  --from N         index of the first history, instead of where the last run has ended
  --keep-going     look for further differences after the first
  --shrink N       seconds to look for a smaller repository that differs, too (default 120)
  --timeout N      seconds that a build of Conveyor's may take (default 60)
  --src DIR        the src of another Conveyor, to test that
  --mutants        put known faults into a copy of src, one after the other, and find each within --cases
  --mutant NAME    only this fault; repeat it
`

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '100' },
    builder: { type: 'string', multiple: true, default: [...BUILDERS] },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
    shrink: { type: 'string', default: '120' },
    timeout: { type: 'string', default: '60' },
    src: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    mutant: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
  },
})

const say = (line: string) => void process.stdout.write(`${line}\n`)
// What runs is brought to its end, so that nothing is left behind; the next run goes on after it.
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())

if (values.help) say(HELP)
else {
  let problems = 0
  for (const builder of values.builder) {
    if (stop.signal.aborted) break
    const exploration = explorationOf(builder)
    const mutants = values.mutants || values.mutant.length > 0
    problems += await (mutants ? exploreMutants(exploration, values.mutant) : explore(exploration))
  }
  if (problems > 0) process.exitCode = 1
}

function explorationOf(builder: string): Exploration {
  const known = BUILDERS.find((one) => one === builder)
  if (!known) throw new Error(`--builder ${builder}: expected ${BUILDERS.join(', ')}`)
  return {
    builder: known,
    seed: whole('seed'),
    cases: whole('cases'),
    from: values.from === undefined ? null : whole('from'),
    keepGoing: values['keep-going'],
    shrinkMs: whole('shrink') * 1000,
    timeoutMs: whole('timeout') * 1000,
    src: values.src,
    say,
    stop: stop.signal,
  }
}

function whole(name: 'seed' | 'cases' | 'from' | 'shrink' | 'timeout'): number {
  const number = Number(values[name])
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${name} ${values[name]}: expected a whole number`)
  return number
}
