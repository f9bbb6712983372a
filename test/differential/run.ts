import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Commit, type History, MODULES } from './generate/model.ts'
import { comparableProbes, difference } from './image/compare.ts'
import { UNABLE } from './reference.ts'
import { checkOut, createRepository } from './repository.ts'
import type { Surroundings } from './surroundings.ts'

/** The results of one history. */
export interface Run {
  /** Commits that both sides built, and that were compared. */
  cases: number
  /** How many of them failed on both sides. */
  failed: number
  /** How many of them an engine's own old client builds differently, while Conveyor agrees with a current one. */
  outdated: number
  /** How the last of them differs; null if none does. */
  difference: string | null
}

let runs = 0

/** Builds commit after commit on both sides, until they differ. */
export async function runHistory({ commits }: History, surroundings: Surroundings): Promise<Run> {
  const { repositories, scratch, subject, reference, newer, bases } = surroundings
  const name = `differential/r${process.pid}-${runs++}`
  const dir = join(repositories, `${name}.git`)
  const run = `${process.pid}-${Date.now()}-${runs}`
  const repository = await createRepository(dir, { base: await bases.point(run, 1), run })
  const folders: string[] = []
  let since: Commit[] = []
  let [cases, failed, outdated, inRow] = [0, 0, 0, 0]
  let timed = true
  try {
    for (const commit of commits) {
      if (commit.pruned) await surroundings.prune()
      await bases.point(run, commit.base)
      const sha = await repository.commit(commit.tree)
      const folder = join(scratch, sha)
      folders.push(folder)
      // Conveyor may build it: it looks only for what the build needs.
      if (!(await checkOut(dir, folder))) break
      const [ours, theirs] = await Promise.all([subject.build(name, sha), reference.build(folder)])
      if (theirs === UNABLE) {
        if (ours.failure?.kind !== 'timeout') break
        return {
          cases,
          failed,
          outdated,
          difference: `Conveyor did not finish:\n${ours.failure.error}`,
        }
      }
      cases++
      const rules = { probes: comparableProbes(commit, since), timed }
      const found = difference(ours, theirs, rules)
      if (found !== null) {
        const again = (await newer?.build(folder)) ?? UNABLE
        // Without caches, because the older client filled them from different files.
        if (again === UNABLE || difference(ours, again, { ...rules, timed: false }) !== null)
          return { cases, failed, outdated, difference: found }
        outdated++
      }
      if (ours.failure) {
        failed++
        // After two failures, the build fails until the Dockerfile changes.
        if (++inRow === 2) break
        // Which steps were interrupted is random on both sides, and so is the content of their caches.
        timed = false
      } else inRow = 0
      since = ours.failure || ours.reused ? [...since, commit] : [commit]
    }
    return { cases, failed, outdated, difference: null }
  } finally {
    const modules = MODULES.map((module) => dir.replace(/\.git$/, `-${module}.git`))
    const made = [dir, ...modules].flatMap((one) => [one, one.replace(/\.git$/, '')])
    for (const folder of [...folders, ...made]) await rm(folder, { recursive: true, force: true })
  }
}
