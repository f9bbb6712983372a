import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { ConveyorError } from '../core/errors.ts'

export interface MigrateOptions {
  /** Every schema change by name, oldest first. A released one is never edited. */
  migrations: Record<string, Migration>
  /** The database as named in messages, without secrets. */
  where: string
  /** The table that records applied migrations. Default `kysely_migration`. */
  table?: string
}

/**
 * Applies the migrations that are still missing.
 * @throws ConveyorError when a newer version of Conveyor has migrated the database, or a migration fails.
 */
export async function migrate<Schema>(db: Kysely<Schema>, options: MigrateOptions): Promise<void> {
  const { migrations, where, table = 'kysely_migration' } = options
  const unknown = (await appliedMigrations(db, table)).find((name) => !(name in migrations))
  if (unknown !== undefined) {
    throw new ConveyorError(
      'unavailable',
      `${where} was migrated by a newer version of Conveyor (it has ${unknown})`,
      {
        hint: 'Run that version or a later one, or use a separate database for this one',
        retryable: false,
      },
    )
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
    throw new ConveyorError('unavailable', `cannot migrate ${where}: ${reason}`, {
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
