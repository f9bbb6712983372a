import { sql } from 'kysely'
import type { SyncRecords } from '../../core/sync-records.ts'
import type { StoreDialect } from './dialect.ts'

/** The token of a finished sync: its files are reliable. */
const SETTLED = ''
/** Matches no sync: two of them overlapped. */
const OVERLAPPED = 'overlapped'

export function kyselySyncRecords({ write, time }: Pick<StoreDialect, 'write' | 'time'>): SyncRecords {
  return {
    async begin(buildkit, repository, token) {
      const row = await write((trx) =>
        trx
          .insertInto('context_syncs')
          .values({
            ...{ buildkit, repository_key: repository, token },
            ...{ previous: null, files: null, updated_at: time() },
          })
          .onConflict((conflict) =>
            conflict
              .columns(['buildkit', 'repository_key'])
              .doUpdateSet({ previous: sql`context_syncs.token`, token, updated_at: time() }),
          )
          .returning(['previous', 'files'])
          .executeTakeFirstOrThrow(),
      )
      return row.previous === SETTLED ? row.files : null
    },

    async end(buildkit, repository, token, files) {
      await write(async (trx) => {
        const row = await trx
          .updateTable('context_syncs')
          .set({ token: files === null ? OVERLAPPED : SETTLED, files, updated_at: time() })
          .where('buildkit', '=', buildkit)
          .where('repository_key', '=', repository)
          .where('token', '=', token)
          .returning('token')
          .executeTakeFirst()
        if (row) return
        await trx
          .updateTable('context_syncs')
          .set({ token: OVERLAPPED, files: null })
          .where('buildkit', '=', buildkit)
          .where('repository_key', '=', repository)
          .execute()
      })
    },
  }
}
