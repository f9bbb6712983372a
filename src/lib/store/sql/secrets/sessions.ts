import type { Kysely } from 'kysely'
import type { Sessions } from '../../../core/access/session.ts'
import type { StoreDialect } from '../dialect.ts'
import type { Schema } from '../schema.ts'

export function kyselySessions(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Sessions {
  return {
    start: (hash, { person, sealed }, lifeSeconds) =>
      write(async (trx) => {
        await trx.deleteFrom('sessions').where('expires_at', '<=', time()).execute()
        await trx
          .insertInto('sessions')
          .values({ hash, person_id: person.id, login: person.login, sealed, expires_at: time(lifeSeconds) })
          .execute()
      }),

    async find(hash) {
      const found = await db
        .selectFrom('sessions')
        .select(['person_id', 'login', 'sealed'])
        .where('hash', '=', hash)
        .where('expires_at', '>', time())
        .executeTakeFirst()
      if (!found) return null
      return { person: { id: Number(found.person_id), login: found.login }, sealed: found.sealed }
    },

    end: (hash) =>
      write(async (trx) => {
        await trx.deleteFrom('sessions').where('hash', '=', hash).execute()
      }),
  }
}

/** Who is signed in. */
export async function addSessions(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('sessions')
    .addColumn('hash', 'text', (column) => column.primaryKey())
    .addColumn('person_id', 'bigint', (column) => column.notNull())
    .addColumn('login', 'text', (column) => column.notNull())
    .addColumn('sealed', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'text', (column) => column.notNull())
    .execute()
  await db.schema.createIndex('sessions_by_end').on('sessions').column('expires_at').execute()
}
