import { randomUUID } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import type { AccessToken, AccessTokens, Scope, TokenState } from '../../../core/access/access-token.ts'
import type { StoreDialect } from '../dialect.ts'
import { isId } from '../rows.ts'
import { type Queries, type Schema, storable } from '../schema.ts'

/** How often the last use of a token is written. */
const USED_EVERY_S = 60

type TokenDialect = Pick<StoreDialect, 'write' | 'time'>

export function kyselyAccessTokens(db: Kysely<Schema>, dialect: TokenDialect): AccessTokens {
  const { write, time } = dialect
  /** When this process wrote the last use of each token, by `performance.now()`. */
  const wrote = new Map<string, number>()
  const rows = (queries: Queries) => tokenRows(queries, dialect)

  return {
    create: (token, hash) =>
      write(async (trx) => {
        // An expired one gives up its name. It still counts as expired, as that happened first.
        await trx
          .updateTable('access_tokens')
          .set({ revoked_at: time() })
          .where('name', '=', token.name)
          .where('revoked_at', 'is', null)
          .where('expires_at', '<=', time())
          .execute()
        const id = randomUUID()
        const { expiresInSeconds } = token
        const made = await trx
          .insertInto('access_tokens')
          .values({
            ...{ id, hash, name: token.name, scope: token.scope, revoked_at: null, last_used_at: null },
            repositories: JSON.stringify(token.repositories),
            created_by: token.createdBy,
            created_at: time(),
            expires_at: expiresInSeconds === null ? null : time(expiresInSeconds),
          })
          .onConflict((conflict) => conflict.doNothing())
          .returning('id')
          .executeTakeFirst()
        return made ? tokenOf(await rows(trx).where('id', '=', id).executeTakeFirstOrThrow()) : null
      }),

    async list() {
      const found = await rows(db)
        .where('revoked_at', 'is', null)
        .orderBy('created_at')
        .orderBy('name')
        .execute()
      return found.map(tokenOf)
    },

    revoke: (key) =>
      write(async (trx) => {
        const byId = isId(key)
          ? await trx
              .selectFrom('access_tokens')
              .select('id')
              .where('id', '=', key)
              .where('revoked_at', 'is', null)
              .executeTakeFirst()
          : undefined
        const revoked = await trx
          .updateTable('access_tokens')
          .set({ revoked_at: time() })
          .where(byId ? 'id' : 'name', '=', byId?.id ?? storable(key))
          .where('revoked_at', 'is', null)
          .returning('id')
          .executeTakeFirst()
        if (!revoked) return null
        wrote.delete(revoked.id)
        return tokenOf(await rows(trx).where('id', '=', revoked.id).executeTakeFirstOrThrow())
      }),

    async find(hash) {
      const found = await rows(db).where('hash', '=', hash).executeTakeFirst()
      return found ? tokenOf(found) : null
    },

    async used(id) {
      const at = performance.now()
      if (at - (wrote.get(id) ?? Number.NEGATIVE_INFINITY) < USED_EVERY_S * 1000) return
      wrote.set(id, at)
      await write((trx) =>
        trx
          .updateTable('access_tokens')
          .set({ last_used_at: time() })
          .where('id', '=', id)
          // Other processes write it, too.
          .where((is) =>
            is.or([is('last_used_at', 'is', null), is('last_used_at', '<', time(-USED_EVERY_S))]),
          )
          .execute(),
      )
    },
  }
}

function tokenRows(queries: Queries, { time }: TokenDialect) {
  return queries
    .selectFrom('access_tokens')
    .select(['id', 'name', 'scope', 'repositories', 'created_by', 'created_at', 'expires_at', 'last_used_at'])
    .select(
      sql<TokenState>`case
        when revoked_at is not null and (expires_at is null or revoked_at < expires_at) then 'revoked'
        when expires_at <= ${time()} then 'expired'
        else 'active' end`.as('state'),
    )
}

interface TokenRow {
  id: string
  name: string
  scope: Scope
  repositories: string
  state: TokenState
  created_by: string
  created_at: string
  expires_at: string | null
  last_used_at: string | null
}

function tokenOf(row: TokenRow): AccessToken {
  return {
    id: row.id,
    name: row.name,
    scope: row.scope,
    repositories: JSON.parse(row.repositories) as string[],
    state: row.state,
    createdBy: row.created_by,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
  }
}
