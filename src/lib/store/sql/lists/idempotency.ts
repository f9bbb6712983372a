import { type RawBuilder, sql } from 'kysely'
import { KeyReusedError } from '../../../core/errors.ts'
import type { IdempotencyKey } from '../../build-list.ts'
import type { Queries } from '../schema.ts'

export const KEYS_KEPT_S = 24 * 60 * 60

/**
 * The id of the build that a request with this key got; null if there was none since `cutoff`.
 * @throws KeyReusedError if that request was another one
 */
export async function keyedBuild(
  db: Queries,
  { key, body }: IdempotencyKey,
  cutoff: RawBuilder<string>,
): Promise<string | null> {
  const row = await db
    .selectFrom('idempotency_keys')
    .select(['body', 'build_id'])
    .where('key', '=', key)
    .where('created_at', '>=', cutoff)
    .executeTakeFirst()
  if (!row) return null
  if (row.body === body) return row.build_id
  throw new KeyReusedError()
}

/** Records which build a request got; the first one stays until it is too old. */
export async function keepKey(
  db: Queries,
  { key, body }: IdempotencyKey,
  buildId: string,
  time: (inSeconds?: number) => RawBuilder<string>,
): Promise<void> {
  const values = { body, build_id: buildId, created_at: time() }
  await db
    .insertInto('idempotency_keys')
    .values({ key, ...values })
    .onConflict((conflict) =>
      conflict
        .column('key')
        .doUpdateSet(values)
        .where(sql<boolean>`idempotency_keys.created_at < ${time(-KEYS_KEPT_S)}`),
    )
    .execute()
}
