import type { Leases } from '../../fleet.ts'
import type { StoreDialect } from '../dialect.ts'

/** BuildStore.leases. */
export function kyselyLeases({ write, time }: Pick<StoreDialect, 'write' | 'time'>): Leases {
  return {
    take: (name, holder, seconds) =>
      write(async (trx) => {
        const until = time(seconds)
        const taken = await trx
          .insertInto('leases')
          .values({ name, holder, held_until: until })
          .onConflict((conflict) =>
            conflict
              .column('name')
              .doUpdateSet({ holder, held_until: until })
              .where((eb) =>
                eb.or([eb('leases.holder', '=', holder), eb('leases.held_until', '<=', time())]),
              ),
          )
          .returning('holder')
          .executeTakeFirst()
        return taken !== undefined
      }),

    drop: (name, holder) =>
      write(async (trx) => {
        await trx.deleteFrom('leases').where('name', '=', name).where('holder', '=', holder).execute()
      }),
  }
}
