import type { Kysely } from 'kysely'
import type { CheckRuns } from '../check-runs.ts'
import type { StoreDialect } from './dialect.ts'
import { isId, readBuilds } from './rows.ts'
import { inFlight, type Schema, waiting } from './schema.ts'

/** The check run of each build. */
export function kyselyCheckRuns(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): CheckRuns {
  return {
    async begin(buildId, seconds) {
      if (!isId(buildId)) return 'refused'
      return write(async (trx) => {
        const made = await trx
          .insertInto('check_runs')
          .values({ build_id: buildId, run_id: null, making_until: time(seconds), refused: 0 })
          .onConflict((conflict) => conflict.column('build_id').doNothing())
          .returning('build_id')
          .executeTakeFirst()
        if (made) return { id: null, mayExist: false }
        const taken = await trx
          .updateTable('check_runs')
          .set({ making_until: time(seconds) })
          .where('build_id', '=', buildId)
          .where('run_id', 'is', null)
          .where('refused', '=', 0)
          .where((eb) => eb.or([eb('making_until', 'is', null), eb('making_until', '<=', time())]))
          .returning('build_id')
          .executeTakeFirst()
        if (taken) return { id: null, mayExist: true }
        const { run_id, refused } = await trx
          .selectFrom('check_runs')
          .select(['run_id', 'refused'])
          .where('build_id', '=', buildId)
          .executeTakeFirstOrThrow()
        if (refused === 1) return 'refused'
        return run_id === null ? 'busy' : { id: Number(run_id) }
      })
    },

    async settle(buildId, outcome) {
      if (!isId(buildId)) return
      await write(async (trx) => {
        if (outcome === 'none') {
          const none = trx.deleteFrom('check_runs').where('build_id', '=', buildId)
          await none.where('run_id', 'is', null).execute()
          return
        }
        await trx
          .updateTable('check_runs')
          .set({
            making_until: null,
            ...(outcome === 'refused' && { refused: 1 }),
            ...(typeof outcome === 'number' && { run_id: outcome }),
          })
          .where('build_id', '=', buildId)
          .execute()
      })
    },

    missing: (seconds, limit) =>
      readBuilds(db, (query) =>
        query
          .where(inFlight)
          .where(waiting)
          .where('builds.created_at', '<=', time(-seconds))
          .where((eb) =>
            eb.not(
              eb.exists(
                eb
                  .selectFrom('check_runs')
                  .select('check_runs.build_id')
                  .whereRef('check_runs.build_id', '=', 'builds.id'),
              ),
            ),
          )
          .limit(limit),
      ),
  }
}
