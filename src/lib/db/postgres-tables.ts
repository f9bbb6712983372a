import { Kysely, PostgresDialect, type PostgresPoolClient } from 'kysely'
import type { PoolClient } from 'pg'
import { ConveyorError } from '../core/errors.ts'
import { type MigrateOptions, migrate } from './migrate.ts'
import type { Postgres } from './postgres.ts'
import { isTimeout } from './postgres-errors.ts'

/** Kysely on the shared pool, with ConveyorErrors. Never `destroy` it: that would close the pool for everybody. */
export function kyselyOn<Schema>(postgres: Postgres): Kysely<Schema> {
  const { pool } = postgres
  const clients = new WeakMap<PoolClient, PostgresPoolClient>()

  function explaining(client: PoolClient): PostgresPoolClient {
    const known = clients.get(client)
    if (known) return known
    let broken: unknown
    const explained = {
      async query(text: string, values: unknown[]) {
        // Including the rollback that Kysely then attempts.
        if (broken) throw postgres.explain(broken)
        try {
          return await client.query(text, values)
        } catch (thrown) {
          if (isTimeout(thrown)) broken = thrown
          throw postgres.explain(thrown)
        }
      },
      release: (destroy?: boolean) => client.release(destroy === true || broken !== undefined),
      get processID() {
        return (client as { processID?: number }).processID
      },
    } as unknown as PostgresPoolClient
    clients.set(client, explained)
    return explained
  }

  return new Kysely<Schema>({
    dialect: new PostgresDialect({
      pool: {
        options: pool.options,
        async connect() {
          const client = await pool.connect().catch((thrown) => {
            throw postgres.explain(thrown)
          })
          return explaining(client)
        },
        end: async () => {},
      },
    }),
  })
}

export interface TablesOptions extends Omit<MigrateOptions, 'where' | 'table'> {
  /** The adapter that owns the tables; part of the name of its migrations table. */
  name: string
  /** A table that the first migration creates. */
  first: string
}

/**
 * Migrates the tables of one adapter under a lock. They are in the first schema of the user's search_path, usually
 * `public`.
 * @throws ConveyorError, also if the first table exists but belongs to another program
 */
export async function migratePostgres(postgres: Postgres, options: TablesOptions): Promise<void> {
  const { name, first, migrations } = options
  const table = `conveyor_${name}_migration`
  // Usually up to date: hundreds of processes that start together should not queue for the lock.
  if (await isUpToDate(postgres, table, Object.keys(migrations))) return
  await postgres.withLock('conveyor migrations', async () => {
    if (!(await exists(postgres, table)) && (await exists(postgres, first))) {
      throw new ConveyorError(
        'invalid',
        `database ${postgres.where} has a table ${first} that belongs to another program`,
        { hint: 'Use a separate database for Conveyor' },
      )
    }
    await migrate(kyselyOn(postgres), { migrations, table, where: `database ${postgres.where}` })
  })
}

async function exists(postgres: Postgres, table: string): Promise<boolean> {
  const [found] = await postgres.query<{ it: boolean }>('select to_regclass($1) is not null as it', [table])
  return found?.it === true
}

/** @param table a name that needs no quoting */
async function isUpToDate(postgres: Postgres, table: string, wanted: string[]): Promise<boolean> {
  if (!(await exists(postgres, table))) return false
  const rows = await postgres.query<{ name: string }>(`select name from ${table}`)
  const applied = new Set(rows.map((row) => row.name))
  return applied.size === wanted.length && wanted.every((migration) => applied.has(migration))
}
