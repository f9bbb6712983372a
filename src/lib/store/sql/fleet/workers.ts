import type { Kysely } from 'kysely'
import type { WorkerInfo, Workers } from '../../fleet.ts'
import type { StoreDialect } from '../dialect.ts'
import { type Schema, storable } from '../schema.ts'

const FORGOTTEN_AFTER_S = 60

/** Who runs builds. */
export function kyselyWorkers(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Workers {
  return {
    async seen({ id, startedAt, ...worker }) {
      const info = storable(JSON.stringify(worker))
      await write(async (trx) => {
        await trx.deleteFrom('workers').where('seen_at', '<', time(-FORGOTTEN_AFTER_S)).execute()
        await trx
          .insertInto('workers')
          .values({ id, info, started_at: startedAt, seen_at: time() })
          .onConflict((conflict) => conflict.column('id').doUpdateSet({ info, seen_at: time() }))
          .execute()
      })
    },

    async gone(id) {
      await write((trx) => trx.deleteFrom('workers').where('id', '=', id).execute())
    },

    async list() {
      const rows = await db
        .selectFrom('workers')
        .selectAll()
        .where('seen_at', '>=', time(-FORGOTTEN_AFTER_S))
        .execute()
      const workers = rows.map(
        ({ id, info, started_at, seen_at }): WorkerInfo => ({
          id,
          ...(JSON.parse(info) as Omit<WorkerInfo, 'id' | 'startedAt' | 'seenAt'>),
          startedAt: started_at,
          seenAt: seen_at,
        }),
      )
      return workers.sort((a, b) => (a.host === b.host ? a.pid - b.pid : a.host < b.host ? -1 : 1))
    },
  }
}
