import { parseArgs } from 'node:util'
import { type Exploration, explore, exploreMutants } from './explore.ts'
import { BUILDERS } from './surroundings.ts'

const HELP = `npm run differential -- [options]

Builds generated commits with Conveyor, and with docker from a fresh checkout, and compares the images. Continues
where the last run with the same seed stopped. Exits with status 1 if images differ.

  --cases N        commits to build on each builder, including those of earlier runs (default 100)
  --builder NAME   ${BUILDERS.join(', ')}; can be repeated (default: all, one after another)
  --seed N         seed of the generated histories (default 1)
  --from N         index of the first history (default: where the last run stopped)
  --clones N       how many of a hundred histories have submodules, and how many Git LFS (default 20)
  --keep-going     continue after the first difference
  --shrink N       seconds to spend on shrinking a repository that differs (default 120)
  --timeout N      seconds that a Conveyor build may take (default 60)
  --src DIR        test the code in this src folder instead
  --mutants        inject known faults into a copy of src, one at a time, and check that each is found within --cases
  --mutant NAME    inject only this fault; can be repeated
`

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '100' },
    builder: { type: 'string', multiple: true, default: [...BUILDERS] },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
    clones: { type: 'string', default: '20' },
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
// The current case is finished, so that nothing is left behind; the next run continues after it.
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
    clones: whole('clones'),
    keepGoing: values['keep-going'],
    shrinkMs: whole('shrink') * 1000,
    timeoutMs: whole('timeout') * 1000,
    src: values.src,
    say,
    stop: stop.signal,
  }
}

function whole(name: 'seed' | 'cases' | 'from' | 'clones' | 'shrink' | 'timeout'): number {
  const number = Number(values[name])
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${name} ${values[name]}: expected a whole number`)
  return number
}
