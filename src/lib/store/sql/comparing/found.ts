import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { BuildRequest, Ref } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { Schema } from '../schema.ts'

/** How much the clocks of GitHub and of the database may differ, in milliseconds. */
export const SKEW_MS = 60_000

/** Compares the heads of a repository with its builds from now on: webhooks of its pushes are expected. */
export async function compareFromNowOn(
  trx: Transaction<Schema>,
  repository: string,
  time: RawBuilder<string>,
): Promise<void> {
  await trx
    .insertInto('comparisons')
    .values({
      ...{ repository_key: repositoryKey(repository), heads: null, sequence: 0, waiting: '[]' },
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
  const same = await sameHead(trx, { repository, ref, sha }, found)
  if (!same || found) return same

  // The ref may have been elsewhere since, and have come back: then this is another push.
  const others = await pushesOf(trx, repository, ref)
    .select('pushed_at')
    .where('sequence', '>', same.sequence)
    .where('sha', '!=', sha)
    .execute()
  const pushedAt = push?.pushedAt ?? Number.POSITIVE_INFINITY
  // Not by a push from before it was found here, whose webhook was late, too.
  const foundAt = same.foundAt === null ? 0 : (Date.parse(same.foundAt) - SKEW_MS) / 1000
  const isSince = (at: number) => at >= foundAt && at < pushedAt
  if (others.some(({ pushed_at }) => pushed_at === null || isSince(Number(pushed_at)))) return null
  await trx
    .updateTable('pushes')
    .set({
      found_at: null,
      ...(push && { before: push.before, after: push.after, pushed_at: push.pushedAt, signed: 1 }),
    })
    .where('sequence', '=', same.sequence)
    .execute()
  return same
}

/** The last push that made a commit the head of a ref: one that was found, or one that came after a sequence number. */
async function sameHead(
  trx: Transaction<Schema>,
  { repository, ref, sha }: { repository: string; ref: Ref; sha: string },
  found: BuildRequest['found'],
): Promise<{ buildId: string; sequence: number; foundAt: string | null } | null> {
  // Each by an index of its own: a ref may have had many thousands of pushes.
  const rows = found
    ? await trx
        .selectFrom('pushes')
        .select(['sequence', 'build_id', 'kind', 'name', 'sha', 'found_at'])
        .where('repository_key', '=', repositoryKey(repository))
        .where('sha', '=', sha)
        .execute()
    : await pushesOf(trx, repository, ref)
        .select(['sequence', 'build_id', 'kind', 'name', 'sha', 'found_at'])
        .where(sql<boolean>`found_at is not null`)
        .execute()
  const [last] = rows
    .map((row) => ({ ...row, sequence: Number(row.sequence) }))
    .filter((row) => row.sha === sha && row.kind === ref.kind && row.name === ref.name)
    .filter(({ sequence }) => !found || sequence > found.since)
    .sort((one, other) => other.sequence - one.sequence)
  return last ? { buildId: last.build_id, sequence: last.sequence, foundAt: last.found_at } : null
}

function pushesOf(trx: Transaction<Schema>, repository: string, { kind, name }: Ref) {
  return trx
    .selectFrom('pushes')
    .where('repository_key', '=', repositoryKey(repository))
    .where('kind', '=', kind)
    .where('name', '=', name)
}
