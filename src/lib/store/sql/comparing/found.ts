import type { RawBuilder, Transaction } from 'kysely'
import type { BuildRequest, Ref } from '../../../core/build.ts'
import { keyOf } from '../rows.ts'
import type { Queries, Schema } from '../schema.ts'

/** Compares the heads of a repository with its builds from now on: webhooks of its pushes are expected. */
export async function compareFromNowOn(
  trx: Transaction<Schema>,
  repository: string,
  time: RawBuilder<string>,
): Promise<void> {
  await trx
    .insertInto('comparisons')
    .values({
      ...{ repository_key: keyOf(repository), heads: null, sequence: 0, waiting: '[]' },
      ...{ next_at: time, compared_at: null, error: null },
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}

/**
 * The build that a request has already: a webhook's, if its push was found before it came; and that of a head that was
 * found, if its webhook came meanwhile.
 */
export async function foundBefore(
  trx: Transaction<Schema>,
  { repository, ref, sha, source, push, found }: BuildRequest,
): Promise<{ buildId: string; sequence: number } | null> {
  if (!ref || (source.kind !== 'webhook' && !found)) return null
  const newest = await pushesOf(trx, repository, ref)
    .select(['sequence', 'build_id'])
    .where('sha', '=', sha)
    .$if(found !== undefined, (query) => query.where('sequence', '>', found?.since ?? 0))
    .$if(found === undefined, (query) => query.where('found_at', 'is not', null))
    .orderBy('sequence', 'desc')
    .executeTakeFirst()
  if (!newest) return null
  const known = { buildId: newest.build_id, sequence: Number(newest.sequence) }
  if (found) return known

  // The ref may have been elsewhere since, and have come back: then this is another push.
  const others = await pushesOf(trx, repository, ref)
    .select('pushed_at')
    .where('sequence', '>', known.sequence)
    .where('sha', '!=', sha)
    .execute()
  const pushedAt = push?.pushedAt ?? Number.POSITIVE_INFINITY
  if (others.some(({ pushed_at }) => pushed_at === null || Number(pushed_at) < pushedAt)) return null
  await trx
    .updateTable('pushes')
    .set({
      found_at: null,
      ...(push && { before: push.before, after: push.after, pushed_at: push.pushedAt, signed: 1 }),
    })
    .where('sequence', '=', known.sequence)
    .execute()
  return known
}

/** The pushes of a ref. */
export function pushesOf(db: Queries, repository: string, { kind, name }: Ref) {
  return db
    .selectFrom('pushes')
    .where('repository_key', '=', keyOf(repository))
    .where('kind', '=', kind)
    .where('name', '=', name)
}
