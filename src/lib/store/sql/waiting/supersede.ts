import type { RawBuilder, Transaction } from 'kysely'
import type { Build, BuildRequest } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import { requestCancel } from '../attempts.ts'
import { readBuild } from '../rows.ts'
import { inFlight, notCancelled, type Schema, waiting } from '../schema.ts'

/** A push, and the build that it got. */
interface Successor {
  id: string
  request: BuildRequest
  /** The position of the push. */
  sequence: number
}

/**
 * Cancels what a push supersedes: the builds of its branch alone that nobody asked for, if the push is the newer one. The
 * branch's pull requests do not count: their heads move with it.
 * @returns them, as they are now
 */
export async function supersede(
  trx: Transaction<Schema>,
  { id, request, sequence }: Successor,
  isNewer: (sequence: number, known: number) => Promise<boolean>,
  time: RawBuilder<string>,
): Promise<Build[]> {
  const { ref, sha, supersede: which, defaultBranch, found } = request
  if (which === undefined || ref?.kind !== 'branch' || ref.name === defaultBranch) return []
  const candidates = await trx
    .selectFrom('builds')
    .innerJoin('build_refs', 'build_refs.build_id', 'builds.id')
    .select(['builds.id', 'build_refs.sequence', 'builds.sequence as order'])
    .where(inFlight)
    .where(notCancelled)
    .where('builds.repository_key', '=', repositoryKey(request.repository))
    .where('builds.lane', '=', 1)
    .$if(which === 'queued', (query) => query.where(waiting))
    .where('build_refs.kind', '=', 'branch')
    .where('build_refs.name', '=', ref.name)
    .execute()
  const superseded: Build[] = []
  // Sorted here: in SQL, SQLite would rather read what waits of all repositories than sort.
  candidates.sort((one, other) => Number(one.order) - Number(other.order))
  for (const candidate of candidates) {
    if (candidate.id === id) continue
    // It was pushed while the heads were being looked up, or later: the one that was found may be older.
    if (found && Number(candidate.sequence) > found.since) continue
    const older = await readBuild(trx, candidate.id)
    if (!older || !isOnlyOf(ref.name, older)) continue
    if (!(await isNewer(sequence, Number(candidate.sequence)))) continue
    const build = await requestCancel(trx, older.id, 'a newer push', time, { id, sha })
    if (build) superseded.push(build)
  }
  return superseded
}

/** Whether nothing but a branch, and its pull requests, has a build. */
function isOnlyOf(branch: string, { refs, defaultBranch }: Build): boolean {
  return (
    branch !== defaultBranch &&
    refs.every(({ kind, name }) => kind === 'pull' || (kind === 'branch' && name === branch))
  )
}
