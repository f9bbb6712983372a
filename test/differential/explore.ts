import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { projectRoot } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { checkHistory } from './check.ts'
import { type Mutant, mutantsOf, mutate } from './mutants.ts'
import { script } from './script.ts'
import { type BuilderName, type Surroundings, surround } from './surroundings.ts'

export interface Exploration {
  builder: BuilderName
  seed: number
  /** Commits to build, including those of earlier, interrupted runs. */
  cases: number
  /** Index of the first history; null: where the last run with this seed stopped. */
  from: number | null
  clones: number
  /** Whether to continue after the first difference. */
  keepGoing: boolean
  shrinkMs: number
  timeoutMs: number
  /** The `src` folder of the code to test. */
  src: string | undefined
  say(line: string): void
  stop: AbortSignal
}

/** Progress of a seed on a builder. */
interface Progress {
  next: number
  cases: number
  /** How many of them failed on both sides. */
  failed: number
  /** How many of them an engine's own old client builds differently, while Conveyor agrees with a current one. */
  outdated: number
  /** Indexes of the histories that differ. */
  different: number[]
}

/** Runs the histories of a seed; resolves to the number of those that differ. */
export async function explore(exploration: Exploration): Promise<number> {
  const { builder, seed, say, stop } = exploration
  const file = join(projectRoot, `.conveyor/differential/${builder}-${seed}-${exploration.clones}.json`)
  const progress = exploration.from === null ? await read(file) : nothing(exploration.from)
  await using surroundings = await surround(builder, exploration)
  const begun = performance.now()
  const before = progress.cases
  while (progress.cases < exploration.cases && !stop.aborted) {
    const index = progress.next++
    const found = await checkHistory(surroundings, { ...exploration, index })
    progress.cases += found.cases
    progress.failed += found.failed
    progress.outdated += found.outdated
    if (found.smallest) {
      progress.different.push(index)
      say(
        `\n=== ${builder}, seed ${seed}, history ${index}, case ${progress.cases}: DIFFERENT\n${found.difference}\n--- script\n${script(found.smallest)}`,
      )
    }
    await write(file, progress)
    const pace = (performance.now() - begun) / 1000 / Math.max(1, progress.cases - before)
    say(
      `${builder} seed ${seed}: history ${index}, ${progress.cases} cases, ${progress.failed} fail on both sides, ${progress.outdated} differ only with old clients, ${progress.different.length} histories differ, ${pace.toFixed(2)} s a case`,
    )
    if (found.smallest && !exploration.keepGoing) break
  }
  return progress.different.length
}

/** Injects each fault and searches for it; resolves to the number of faults that were not found. */
export async function exploreMutants(exploration: Exploration, only: readonly string[]): Promise<number> {
  const { builder, seed, say, stop } = exploration
  const mutants = mutantsOf(builder).filter(({ name }) => only.length === 0 || only.includes(name))
  await using clean = await surround(builder, { ...exploration, src: undefined })
  let missed = 0
  for (const mutant of mutants) {
    if (stop.aborted) break
    const { cases, found } = await findMutant(mutant, exploration, clean)
    if (found === null) missed++
    const result = found === null ? 'NOT found' : 'found'
    say(`${builder} seed ${seed}: ${mutant.name} (${mutant.fault}): ${result} at case ${cases}`)
    if (found !== null) say(`  ${found.split('\n', 2).join('\n  ')}`)
  }
  return missed
}

/** @param clean without the fault: differences there do not count */
async function findMutant(
  mutant: Mutant,
  exploration: Exploration,
  clean: Surroundings,
): Promise<{ cases: number; found: string | null }> {
  const { builder, seed, stop } = exploration
  await using folder = await tempDir('conveyor-mutant-')
  const src = await mutate(mutant, folder.path)
  await using surroundings = await surround(builder, { ...exploration, src })
  let cases = 0
  for (let index = exploration.from ?? 0; cases < exploration.cases && !stop.aborted; index++) {
    const options = { seed, index, shrinkMs: 0, clones: exploration.clones }
    const checked = await checkHistory(surroundings, options)
    cases += checked.cases
    if (checked.difference === null) continue
    const without = await checkHistory(clean, options)
    if (without.difference === null) return { cases, found: checked.difference }
  }
  return { cases, found: null }
}

function nothing(next: number): Progress {
  return { next, cases: 0, failed: 0, outdated: 0, different: [] }
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
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, JSON.stringify(progress))
}
