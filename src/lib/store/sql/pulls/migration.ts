import { type Kysely, sql } from 'kysely'

/** Pull requests, and builds for those of forks, which are apart from the others of the same commit. */
export async function addPulls({ schema }: Kysely<unknown>): Promise<void> {
  const builds = () => schema.alterTable('builds')
  await builds()
    .addColumn('fork', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute()
  await builds().addColumn('fork_repository', 'text').execute()
  await builds().addColumn('approved_by', 'text').execute()
  await schema.dropIndex('builds_in_flight').execute()
  await schema
    .createIndex('builds_in_flight')
    .unique()
    .on('builds')
    .columns(['repository_key', 'sha', 'fork'])
    .where(sql<boolean>`state in ('pending', 'building') and cancel_by is null`)
    .execute()

  await schema
    .createTable('pulls')
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('number', 'bigint', (column) => column.notNull())
    .addColumn('info', 'text', (column) => column.notNull())
    .addColumn('head_sha', 'text', (column) => column.notNull())
    .addColumn('fork', 'integer', (column) => column.notNull())
    .addColumn('open', 'integer', (column) => column.notNull())
    .addColumn('cleaned', 'integer', (column) => column.notNull().defaultTo(0))
    .addColumn('updated_at', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('pulls_key', ['repository_key', 'number'])
    .execute()
  await schema.createIndex('pulls_by_head').on('pulls').columns(['repository_key', 'head_sha']).execute()
  await schema
    .createIndex('pulls_open')
    .on('pulls')
    .columns(['repository_key', 'updated_at', 'number'])
    .where(sql<boolean>`open = 1`)
    .execute()
  await schema
    .createIndex('pulls_to_clean')
    .on('pulls')
    .column('updated_at')
    .where(sql<boolean>`open = 0 and cleaned = 0`)
    .execute()

  // The heads that they have had.
  await schema
    .createTable('pull_heads')
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('number', 'bigint', (column) => column.notNull())
    .addColumn('head_sha', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('pull_heads_key', ['repository_key', 'number', 'head_sha'])
    .execute()
  await schema
    .createIndex('pull_heads_by_sha')
    .on('pull_heads')
    .columns(['repository_key', 'head_sha'])
    .execute()
}
