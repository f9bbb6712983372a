import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { ConveyorError } from '../core/errors.ts'

export interface MigrateOptions {
  /** Every change of the tables, by name, oldest first. What has been released is never edited. */
  migrations: Record<string, Migration>
  /** Names the database in messages, without secrets. */
  where: string
  /** The table that says which were run. Default `kysely_migration`. */
  table?: string
}

/**
 * Brings tables up to date.
 * @throws ConveyorError when a later version of Conveyor has changed them, or a migration fails.
 */
export async function migrate<Schema>(db: Kysely<Schema>, options: MigrateOptions): Promise<void> {
  const { migrations, where, table = 'kysely_migration' } = options
  const unknown = (await appliedMigrations(db, table)).find((name) => !(name in migrations))
  if (unknown !== undefined) {
    throw new ConveyorError('unavailable', `${where} was written by a newer Conveyor (it has ${unknown})`, {
      hint: 'Start that version or a later one, or give this one a database of its own',
      retryable: false,
    })
  }
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => migrations },
    migrationTableName: table,
    migrationLockTableName: `${table}_lock`,
  })
  const { error } = await migrator.migrateToLatest()
  if (error instanceof ConveyorError) throw error
  if (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ConveyorError('unavailable', `cannot prepare the tables of ${where}: ${reason}`, {
      retryable: false,
      cause: error,
    })
  }
}

async function appliedMigrations<Schema>(db: Kysely<Schema>, table: string): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some(({ name }) => name === table)) return []
  const { rows } = await sql<{ name: string }>`select name from ${sql.table(table)} order by name`.execute(db)
  return rows.map((row) => row.name)
}
