import type { Kysely } from 'kysely'
import type { Turns } from '../../notifications.ts'
import type { StoreDialect } from '../dialect.ts'
import { type Schema, storable } from '../schema.ts'

/** BuildStore.turns. */
export function kyselyTurns(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Turns {
  return {
    take: (name, seconds) =>
      write(async (trx) => {
        const until = time(seconds)
        const taken = await trx
          .insertInto('turns')
          .values({ name: storable(name), until })
          .onConflict((conflict) =>
            conflict.column('name').doUpdateSet({ until }).where('turns.until', '<=', time()),
          )
          .returning('name')
          .executeTakeFirst()
        return taken !== undefined
      }),

    async pause(name, seconds) {
      const until = time(seconds)
      await write((trx) =>
        trx
          .insertInto('turns')
          .values({ name: storable(name), until })
          .onConflict((conflict) => conflict.column('name').doUpdateSet({ until }))
          .execute(),
      )
    },

    async pausedUntil(name) {
      const row = await db
        .selectFrom('turns')
        .select('until')
        .where('name', '=', storable(name))
        .where('until', '>', time())
        .executeTakeFirst()
      return row?.until ?? null
    },
  }
}
