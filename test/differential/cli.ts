import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { projectRoot } from '../support/processes.ts'
import { checkHistory } from './check.ts'
import { script } from './script.ts'
import { BUILDERS, type BuilderName, surround } from './surroundings.ts'

const HELP = `npm run differential -- [options]

Builds generated commits with Conveyor and with docker from a fresh checkout, and compares the images.

  --cases N        commits to build on each builder (default 100)
  --builder NAME   ${BUILDERS.join(', ')}; repeat it (default: all)
  --seed N         which histories (default 1)
  --from N         index of the first history, instead of where the last run with this seed has ended
  --keep-going     look for further differences after the first
  --shrink N       seconds to look for a smaller repository that differs, too (default 120)
  --src DIR        the src of another Conveyor, to test that
`

/** How far a seed has come on a builder. */
interface Progress {
  next: number
  cases: number
  failed: number
  /** Indexes of the histories that differ. */
  different: number[]
}

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
    help: { type: 'boolean', default: false },
  },
})
const say = (line: string) => process.stdout.write(`${line}\n`)

if (values.help) say(HELP)
else for (const builder of values.builder) await runBuilder(builder as BuilderName)

async function runBuilder(builder: BuilderName): Promise<void> {
  if (!BUILDERS.includes(builder)) throw new Error(`--builder ${builder}: expected ${BUILDERS.join(', ')}`)
  const seed = Number(values.seed)
  const file = join(projectRoot, `.conveyor/differential/${builder}-${seed}.json`)
  const progress = values.from ? nothing(Number(values.from)) : await read(file)
  await using surroundings = await surround(builder, {
    src: values.src,
    timeoutMs: Number(values.timeout) * 1000,
  })
  const begun = performance.now()
  const before = progress.cases
  while (progress.cases < Number(values.cases)) {
    const index = progress.next
    const found = await checkHistory(surroundings, { seed, index, shrinkMs: Number(values.shrink) * 1000 })
    progress.next++
    progress.cases += found.cases
    progress.failed += found.failed
    if (found.smallest) {
      progress.different.push(index)
      say(
        `\n=== ${builder}, seed ${seed}, history ${index}, case ${progress.cases}: DIFFERENT\n${found.difference}\n--- script\n${script(found.smallest)}`,
      )
    }
    await write(file, progress)
    const rate = (performance.now() - begun) / 1000 / Math.max(1, progress.cases - before)
    say(
      `${builder} seed ${seed}: history ${index}, ${progress.cases} cases, ${progress.failed} fail on both sides, ${progress.different.length} histories differ, ${rate.toFixed(2)} s a case`,
    )
    if (found.smallest && !values['keep-going']) break
  }
  if (progress.different.length > 0) process.exitCode = 1
}

function nothing(next: number): Progress {
  return { next, cases: 0, failed: 0, different: [] }
}

async function read(file: string): Promise<Progress> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Progress
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return nothing(0)
    throw error
  }
}

async function write(file: string, progress: Progress): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true })
  await writeFile(file, JSON.stringify(progress))
}
