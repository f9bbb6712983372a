import { type Kysely, sql } from 'kysely'

/** The order in which builds start, which of them newer pushes replaced, and which are of no interest to the forge. */
export async function addTurnsOfBuilds(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  const builds = () => schema.alterTable('builds')
  await builds()
    .addColumn('lane', 'integer', (column) => column.notNull().defaultTo(1))
    .execute()
  await builds()
    .addColumn('round', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute()
  await builds()
    .addColumn('neutral', 'integer', (column) => column.notNull().defaultTo(0))
    .execute()
  for (const column of ['superseded_by', 'superseded_sha']) await builds().addColumn(column, 'text').execute()
  // Who joined a build was not recorded: no push may supersede those that wait now.
  await sql`update builds set lane = 0 where state in ('pending', 'building')`.execute(db)
  const waiting = sql<boolean>`state = 'pending'`
  await schema
    .createIndex('builds_waiting')
    .on('builds')
    .columns(['lane', 'round', 'sequence'])
    .where(waiting)
    .execute()
  await schema
    .createIndex('builds_waiting_of_repository')
    .on('builds')
    .columns(['repository_key', 'lane', 'round'])
    .where(waiting)
    .execute()
}
