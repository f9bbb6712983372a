import { randomUUID } from 'node:crypto'
import { type Kysely, type RawBuilder, type Selectable, sql, type Transaction } from 'kysely'
import { batches } from '../../../util/collections/batches.ts'
import type { Notification, Notifications } from '../../notifications.ts'
import type { StoreDialect } from '../dialect.ts'
import { isId } from '../rows.ts'
import { type Schema, storable } from '../schema.ts'

/** How long a try may take before it counts as lost, in seconds. */
const TRY_S = 60
/** Rows that are added at a time: databases limit the values of a statement. */
const ROWS_AT_ONCE = 1000
const KEPT_S = 30 * 24 * 60 * 60
/** Builds that ended while no server ran: later, nobody waits for the news. */
const UNSENT_KEPT_S = 3 * 24 * 60 * 60
const LOST = 'the server ended during the last try'

/** Spelled out for the partial index. */
const pending = sql<boolean>`notifications.state = 'pending'`

/** Puts a build that has just ended into the outbox. To be called wherever one ends, in the same transaction. */
export async function recordEnd(
  trx: Transaction<Schema>,
  buildId: string,
  time: RawBuilder<string>,
): Promise<void> {
  await trx
    .insertInto('ended_builds')
    .values({ build_id: buildId, ended_at: time })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}

/** Forgets what is old. */
export async function pruneNotifications(
  trx: Transaction<Schema>,
  time: StoreDialect['time'],
): Promise<void> {
  await trx.deleteFrom('ended_builds').where('ended_at', '<', time(-UNSENT_KEPT_S)).execute()
  await trx.deleteFrom('notifications').where('created_at', '<', time(-KEPT_S)).execute()
  await trx.deleteFrom('leases').where('held_until', '<', time(-KEPT_S)).execute()
}

/** BuildStore.notifications. */
export function kyselyNotifications(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Notifications {
  return {
    async ended(limit) {
      const rows = await db
        .selectFrom('ended_builds')
        .select('build_id')
        .orderBy('ended_at')
        .limit(limit)
        .execute()
      return rows.map(({ build_id }) => build_id)
    },

    async make(buildId, notifications, tries) {
      if (!isId(buildId)) return
      await write(async (trx) => {
        const taken = await trx
          .deleteFrom('ended_builds')
          .where('build_id', '=', buildId)
          .returning('build_id')
          .executeTakeFirst()
        if (!taken || notifications.length === 0) return
        const now = time()
        const rows = notifications.map((one, position) => ({
          ...{ id: randomUUID(), build_id: buildId, position, ...one },
          ...{ state: 'pending' as const, attempts: 0, tries_left: tries, due_at: now, created_at: now },
          ...{ status: null, answer: null, error: null, took_ms: null, attempted_at: null },
        }))
        for (const some of batches(rows, ROWS_AT_ONCE)) {
          await trx.insertInto('notifications').values(some).execute()
        }
      })
    },

    async dueTargets() {
      const rows = await db
        .selectFrom('notifications')
        .select('target')
        .distinct()
        .where(pending)
        .where('due_at', '<=', time())
        .execute()
      return rows.map(({ target }) => target)
    },

    claim: (target) =>
      write(async (trx) => {
        await trx
          .updateTable('notifications')
          .set({ state: 'failed', error: LOST })
          .where(pending)
          .where('target', '=', target)
          .where('due_at', '<=', time())
          .where('tries_left', '=', 0)
          .execute()
        const first = await trx
          .selectFrom('notifications')
          .select('id')
          .where(pending)
          .where('target', '=', target)
          .where('due_at', '<=', time())
          .orderBy('due_at')
          .orderBy('position')
          .limit(1)
          .executeTakeFirst()
        if (!first) return null
        const row = await trx
          .updateTable('notifications')
          .set({
            attempts: sql`attempts + 1`,
            tries_left: sql`tries_left - 1`,
            due_at: time(TRY_S),
            attempted_at: time(),
          })
          .where('id', '=', first.id)
          // Another server may have claimed it since.
          .where(pending)
          .where('due_at', '<=', time())
          .returningAll()
          .executeTakeFirst()
        return row ? notificationOf(row) : null
      }),

    async settle({ id, attempts }, { status, answer, error, tookMs, retryInS }) {
      const again = retryInS === undefined ? sql<boolean>`false` : sql<boolean>`tries_left > 0`
      const ended = error === null ? 'delivered' : 'failed'
      await write((trx) =>
        trx
          .updateTable('notifications')
          .set({
            state: sql`case when ${again} then 'pending' else ${ended} end`,
            due_at: time(retryInS ?? 0),
            status,
            answer: answer === null ? null : storable(answer),
            error: error === null ? null : storable(error),
            took_ms: tookMs,
          })
          .where('id', '=', id)
          .where('attempts', '=', attempts)
          .where(pending)
          .execute(),
      )
    },

    async ofBuild(buildId) {
      if (!isId(buildId)) return []
      const rows = await db
        .selectFrom('notifications')
        .selectAll()
        .where('build_id', '=', buildId)
        .orderBy('position')
        .execute()
      return rows.map(notificationOf)
    },

    async get(id) {
      if (!isId(id)) return null
      const row = await db.selectFrom('notifications').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? notificationOf(row) : null
    },

    async redeliver(id, tries) {
      if (!isId(id)) return null
      return write(async (trx) => {
        const row = await trx
          .updateTable('notifications')
          .set({ state: 'pending', tries_left: tries, due_at: time() })
          .where('id', '=', id)
          .where('state', '!=', 'pending')
          .returningAll()
          .executeTakeFirst()
        return row ? notificationOf(row) : null
      })
    },
  }
}

function notificationOf(row: Selectable<Schema['notifications']>): Notification {
  return {
    id: row.id,
    buildId: row.build_id,
    target: row.target,
    origin: row.origin,
    format: row.format,
    tag: row.tag,
    state: row.state,
    attempts: row.attempts,
    triesLeft: row.tries_left,
    dueAt: row.state === 'pending' ? row.due_at : null,
    status: row.status,
    answer: row.answer,
    error: row.error,
    tookMs: row.took_ms,
    createdAt: row.created_at,
    attemptedAt: row.attempted_at,
  }
}
