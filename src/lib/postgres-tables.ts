import { Kysely, PostgresDialect, type PostgresPoolClient } from 'kysely'
import type { PoolClient } from 'pg'
import { ConveyorError } from './errors.ts'
import { type MigrateOptions, migrate } from './migrate.ts'
import type { Postgres } from './postgres.ts'

/** Kysely on the shared connections; every query throws ConveyorErrors. Never `destroy` it: the pool is shared. */
export function kyselyOn<Schema>(postgres: Postgres): Kysely<Schema> {
  const { pool } = postgres
  const clients = new WeakMap<PoolClient, PostgresPoolClient>()

  function explaining(client: PoolClient): PostgresPoolClient {
    const known = clients.get(client)
    if (known) return known
    const query = (text: string, values: unknown[]) =>
      client.query(text, values).catch((thrown) => {
        throw postgres.explain(thrown)
      })
    const made = {
      query,
      release: (destroy?: boolean) => client.release(destroy),
      get processID() {
        return (client as { processID?: number }).processID
      },
    } as unknown as PostgresPoolClient
    clients.set(client, made)
    return made
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
  /** The adapter whose tables they are; names the table of its migrations. */
  name: string
  /** A table that the first migration makes. */
  first: string
}

/**
 * Brings one adapter's tables up to date, while no other process does. The tables are in the schema that the
 * login's search_path names first, `public` as a rule.
 * @throws ConveyorError, also when a table of that name is another program's.
 */
export async function migratePostgres(postgres: Postgres, options: TablesOptions): Promise<void> {
  const { name, first, migrations } = options
  const table = `conveyor_${name}_migration`
  await postgres.withLock('conveyor migrations', async () => {
    const [found] = await postgres.query<{ ours: boolean; theirs: boolean }>(
      'select to_regclass($1) is not null as ours, to_regclass($2) is not null as theirs',
      [table, first],
    )
    if (found?.theirs && !found.ours) {
      throw new ConveyorError(
        'invalid',
        `database ${postgres.where} has a table ${first} of another program`,
        {
          hint: 'Give Conveyor a database of its own',
        },
      )
    }
    await migrate(kyselyOn(postgres), { migrations, table, where: `database ${postgres.where}` })
  })
}
