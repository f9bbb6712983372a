import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { BuildRequest, Ref } from '../../core/build.ts'
import type { Push } from '../../core/push-order.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { isPushed } from '../../core/validate.ts'
import type { Queries, Schema } from './schema.ts'

/** How many pushes of one ref within one second are considered: people do not push more. */
const MOST_IN_A_SECOND = 200

/** SQL, for the pushes of one ref: the plus keeps SQLite from going through all signed ones of the repository. */
const signedOfRef = sql<boolean>`+pushes.signed = 1`

/** SQL: newest push first, as far as the database can tell. */
export const newestFirst = sql`coalesce(pushes.pushed_at, 0) desc, pushes.sequence desc`

/** The push at each of these positions; with few details for those from before pushes were stored. */
export async function readPushes(db: Queries, sequences: number[]): Promise<Map<number, Push>> {
  const rows =
    sequences.length === 0
      ? []
      : await db.selectFrom('pushes').selectAll().where('sequence', 'in', sequences).execute()
  const known = new Map(rows.map((row) => [Number(row.sequence), pushOf(row)]))
  return new Map(sequences.map((sequence) => [sequence, known.get(sequence) ?? unknownPush(sequence)]))
}

function unknownPush(sequence: number): Push {
  const nothing = { ref: null, sha: null, before: null, after: null, pushedAt: null }
  return { sequence, repository: '', ...nothing, signed: false, again: false }
}

function pushOf(row: Schema['pushes']): Push {
  return {
    sequence: Number(row.sequence),
    repository: row.repository_key,
    ref: row.kind === null || row.name === null ? null : { kind: row.kind, name: row.name },
    sha: row.sha,
    before: row.before,
    after: row.after,
    pushedAt: row.pushed_at === null ? null : Number(row.pushed_at),
    signed: row.signed === 1,
    again: row.again === 1,
  }
}

/** The signed pushes of the same ref in the same second, or in an unknown one. */
export async function concurrentPushes(db: Queries, push: Push): Promise<Push[]> {
  if (push.ref === null) return []
  const rows = await db
    .selectFrom('pushes')
    .selectAll()
    .where('repository_key', '=', push.repository)
    .where('kind', '=', push.ref.kind)
    .where('name', '=', push.ref.name)
    .where('pushed_at', push.pushedAt === null ? 'is' : '=', push.pushedAt)
    .where(signedOfRef)
    .orderBy('sequence', 'desc')
    .limit(MOST_IN_A_SECOND)
    .execute()
  return rows.map(pushOf)
}

/**
 * The build of an earlier push with the same contents, and whether this may be a second push to the same commit: then the
 * ref was at another commit within that second.
 */
export async function samePush(
  db: Queries,
  { repository, ref, sha, push }: BuildRequest,
): Promise<{ buildId: string; again: boolean } | null> {
  if (!push || !ref) return null
  const same = await db
    .selectFrom('pushes')
    .selectAll()
    .where('repository_key', '=', repositoryKey(repository))
    .where('kind', '=', ref.kind)
    .where('name', '=', ref.name)
    .where('before', '=', push.before)
    .where('after', '=', push.after)
    .where('pushed_at', push.pushedAt === null ? 'is' : '=', push.pushedAt)
    .where('sha', '=', sha)
    .where(signedOfRef)
    .orderBy('sequence')
    .executeTakeFirst()
  if (!same) return null
  const concurrent = await concurrentPushes(db, pushOf(same))
  const again = concurrent.some(({ before, after }) => before !== push.before || after !== push.after)
  return { buildId: same.build_id, again }
}

/** Stores the push of a request at its position, unless an earlier one has that position. */
export async function addPush(
  trx: Transaction<Schema>,
  request: BuildRequest,
  place: { sequence: number; buildId: string; again: boolean; time: RawBuilder<string> },
): Promise<void> {
  const { repository, sha, push } = request
  const ref = request.ref ?? request.within ?? null
  await trx
    .insertInto('pushes')
    .values({
      sequence: place.sequence,
      repository_key: repositoryKey(repository),
      sha,
      kind: ref?.kind ?? null,
      name: ref?.name ?? null,
      before: push?.before ?? null,
      after: push?.after ?? null,
      pushed_at: push ? push.pushedAt : await newestSecond(trx, repository, place.sequence),
      signed: push ? 1 : 0,
      unproven: request.unproven ? 1 : 0,
      again: place.again ? 1 : 0,
      build_id: place.buildId,
      found_at: request.found ? place.time : null,
    })
    .onConflict((conflict) => conflict.column('sequence').doNothing())
    .execute()
}

/** The time of the newest push before a position. */
async function newestSecond(
  trx: Transaction<Schema>,
  repository: string,
  sequence: number,
): Promise<number | null> {
  const { newest } = await trx
    .selectFrom('pushes')
    .select((select) => select.fn.max('pushed_at').as('newest'))
    .where('repository_key', '=', repositoryKey(repository))
    .where('sequence', '<', sequence)
    .executeTakeFirstOrThrow()
  return newest === null ? null : Number(newest)
}

/** BuildStore.announced. */
export async function announced(
  db: Queries,
  repository: string,
  sha: string,
  ref: Ref | null,
): Promise<boolean> {
  const rows = await db
    .selectFrom('pushes')
    .select(['kind', 'name'])
    .where('repository_key', '=', repositoryKey(repository))
    .where('sha', '=', sha)
    .where('unproven', '=', 0)
    .where('kind', 'is not', null)
    .$if(ref !== null, (query) =>
      query.where('kind', '=', ref?.kind ?? null).where('name', '=', ref?.name ?? ''),
    )
    .execute()
  return rows.some(({ kind, name }) => kind !== null && name !== null && isPushed({ kind, name }))
}

/** BuildStore.spelling. */
export async function spellingOf(db: Queries, key: string): Promise<string | null> {
  const row = await db
    .selectFrom('repositories')
    .select('name')
    .where('repository_key', '=', key)
    .executeTakeFirst()
  return row?.name ?? null
}

/** The spelling of the repository for a request's build; that of a signed webhook is stored for later requests. */
export async function spell(trx: Transaction<Schema>, { repository, push }: BuildRequest): Promise<string> {
  const key = repositoryKey(repository)
  const known = await spellingOf(trx, key)
  if (!push) return known ?? repository
  if (known !== repository) {
    await trx
      .insertInto('repositories')
      .values({ repository_key: key, name: repository })
      .onConflict((conflict) => conflict.column('repository_key').doUpdateSet({ name: repository }))
      .execute()
  }
  return repository
}
