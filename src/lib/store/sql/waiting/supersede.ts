import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { Build, BuildRequest } from '../../../core/build.ts'
import { requestCancel } from '../attempts.ts'
import { keyOf } from '../rows.ts'
import { inFlight, notCancelled, type Schema } from '../schema.ts'

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
  const { ref, sha, supersede: which, defaultBranch } = request
  if (which === undefined || ref?.kind !== 'branch' || ref.name === defaultBranch) return []
  const candidates = await trx
    .selectFrom('builds')
    .innerJoin('build_refs', 'build_refs.build_id', 'builds.id')
    .select(['builds.id', 'build_refs.sequence'])
    .where(inFlight)
    .where(notCancelled)
    .where('builds.repository_key', '=', keyOf(request.repository))
    .where('builds.id', '<>', id)
    .where('builds.lane', '=', 1)
    .$if(which === 'queued', (query) => query.where(sql<boolean>`builds.state = 'pending'`))
    .where((eb) =>
      eb.or([eb('builds.default_branch', 'is', null), eb('builds.default_branch', '<>', ref.name)]),
    )
    .where('build_refs.kind', '=', 'branch')
    .where('build_refs.name', '=', ref.name)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('build_refs as other')
            .select('other.build_id')
            .whereRef('other.build_id', '=', 'builds.id')
            .where((eb) =>
              eb.or([
                eb('other.kind', '=', 'tag'),
                eb.and([eb('other.kind', '=', 'branch'), eb('other.name', '<>', ref.name)]),
              ]),
            ),
        ),
      ),
    )
    .orderBy('builds.sequence')
    .execute()
  const superseded: Build[] = []
  for (const candidate of candidates) {
    if (!(await isNewer(sequence, Number(candidate.sequence)))) continue
    const build = await requestCancel(trx, candidate.id, 'a newer push', time, { id, sha })
    if (build) superseded.push(build)
  }
  return superseded
}
