import { type Kysely, sql } from 'kysely'

/** The order in which builds start, which of them newer pushes replaced, and which are of no interest to the forge. */
export async function addTurnsOfBuilds(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  const integers = { lane: 1, round: 0, neutral: 0 }
  for (const [name, initial] of Object.entries(integers)) {
    await schema
      .alterTable('builds')
      .addColumn(name, name === 'round' ? 'bigint' : 'integer', (column) =>
        column.notNull().defaultTo(initial),
      )
      .execute()
  }
  for (const name of ['superseded_by', 'superseded_sha'])
    await schema.alterTable('builds').addColumn(name, 'text').execute()
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
