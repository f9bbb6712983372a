import { type Kysely, sql } from 'kysely'

/**
 * What was seen of each repository's branches and git tags, to find pushes that no webhook announced; and leases for
 * work that only one process does. Repositories that are built by webhooks are compared from now on.
 */
export async function addComparisons(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('leases')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('holder', 'text', (column) => column.notNull())
    .addColumn('held_until', 'text', (column) => column.notNull())
    .execute()
  await schema
    .createTable('comparisons')
    .addColumn('repository_key', 'text', (column) => column.primaryKey())
    .addColumn('heads', 'bytea')
    .addColumn('sequence', 'bigint', (column) => column.notNull().defaultTo(0))
    .addColumn('waiting', 'text', (column) => column.notNull().defaultTo('[]'))
    .addColumn('next_at', 'text', (column) => column.notNull().defaultTo(''))
    .addColumn('compared_at', 'text')
    .addColumn('error', 'text')
    .execute()
  await schema.createIndex('comparisons_due').on('comparisons').column('next_at').execute()
  await sql`
    insert into comparisons (repository_key)
    select repository_key from repositories
    union select repository_key from builds where source = 'webhook'`.execute(db)

  await schema.alterTable('pushes').addColumn('found_at', 'text').execute()
  await schema
    .createIndex('pushes_signed')
    .on('pushes')
    .columns(['repository_key', 'sequence'])
    .where(sql<boolean>`signed = 1`)
    .execute()
  await schema
    .createIndex('pushes_found')
    .on('pushes')
    .columns(['repository_key', 'kind', 'name'])
    .where(sql<boolean>`found_at is not null`)
    .execute()
  await schema.alterTable('ignored_deliveries').addColumn('sha', 'text').execute()
}
