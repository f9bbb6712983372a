import fc from 'fast-check'
import { histories } from './generate/histories.ts'
import { type History, keyOf } from './generate/model.ts'
import { type Run, runHistory } from './run.ts'
import type { Surroundings } from './surroundings.ts'

/** The outcome of one generated history. */
export interface Checked extends Run {
  /** The smallest history found that still differs; null if there is no difference. */
  smallest: History | null
}

export interface CheckOptions {
  /** Selects the history, together with the index. */
  seed: number
  index: number
  /** How many of a hundred histories have submodules, and how many Git LFS. */
  clones?: number | undefined
  /** How long to shrink a history, in milliseconds; 0 to skip it. */
  shrinkMs: number
}

/** Generates one history, builds it on both sides, and shrinks it if they differ. */
export async function checkHistory(surroundings: Surroundings, options: CheckOptions): Promise<Checked> {
  const { seed, index, shrinkMs } = options
  let first: Run | null = null
  let last: { run: Run; history: History } | null = null
  const tried = new Set<string>()
  let until = Number.POSITIVE_INFINITY
  const agree = async (history: History): Promise<boolean> => {
    if (first?.difference && performance.now() > until) return true
    const key = keyOf(history.commits)
    if (tried.has(key)) return true
    tried.add(key)
    const run = await runHistory(history, surroundings)
    if (!first) until = performance.now() + shrinkMs
    first ??= run
    if (run.difference === null || (last && kindOf(run.difference) !== kindOf(last.run.difference ?? '')))
      return true
    last = { run, history }
    return false
  }
  const arbitrary = histories({ isNew: surroundings.builder !== 'engine', clones: options.clones })
  const details = await fc.check(fc.asyncProperty(arbitrary, agree), {
    seed: seedOf(seed, index),
    numRuns: 1,
    endOnFailure: shrinkMs === 0,
  })
  if (!first) throw details.errorInstance ?? new Error('no history was generated')
  const cases = (first as Run).cases
  const found = last as { run: Run; history: History } | null
  if (!found && details.failed) throw details.errorInstance
  return {
    ...(first as Run),
    cases,
    difference: found?.run.difference ?? null,
    smallest: found ? { commits: found.history.commits.slice(0, found.run.cases) } : null,
  }
}

/** The kind of a difference, which stays the same while a history is shrunk. */
function kindOf(difference: string): string {
  return /^(Conveyor \w+( with \w+)?)|is missing|is too much|of the config/.exec(difference)?.[0] ?? 'other'
}

/** Seeds of fast-check are 32-bit numbers; adjacent ones should have nothing in common. */
function seedOf(seed: number, index: number): number {
  return Math.imul(seed ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b) | 0
}
