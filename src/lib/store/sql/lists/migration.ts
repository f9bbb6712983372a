import { type Kysely, sql } from 'kysely'

/**
 * What lists of builds need: where a build came from, what its commit says, and indexes and tables to find builds by
 * repository, branch, state, time and text. With a million builds it takes
 * about ten seconds in SQLite and half a minute in Postgres, during which nothing else is written.
 *
 * Servers of an earlier version that go on running leave the new columns empty: see `placeRefs`.
 */
export async function addLists(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  for (const column of ['source', 'commit_title', 'commit_author', 'commit_login']) {
    await schema.alterTable('builds').addColumn(column, 'text').execute()
  }
  await schema.createIndex('builds_of_state').on('builds').columns(['state', 'sequence']).execute()
  await schema
    .createIndex('builds_of_repository_state')
    .on('builds')
    .columns(['repository_key', 'state', 'sequence'])
    .execute()
  await schema.createIndex('builds_of_sha').on('builds').columns(['sha', 'sequence']).execute()
  await schema.createIndex('builds_by_age').on('builds').columns(['created_at', 'sequence']).execute()
  await addRefs(db)
  await addTexts(db)
  await addIgnored(db)
  await schema
    .createTable('idempotency_keys')
    .addColumn('key', 'text', (column) => column.primaryKey())
    .addColumn('body', 'text', (column) => column.notNull())
    .addColumn('build_id', 'text', (column) => column.notNull().references('builds.id'))
    .addColumn('created_at', 'text', (column) => column.notNull())
    .execute()
  await schema.createIndex('idempotency_keys_by_age').on('idempotency_keys').column('created_at').execute()
}

/** The builds of each ref in their order, and the last build of each ref and repository. */
async function addRefs(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema.alterTable('build_refs').addColumn('repository_key', 'text').execute()
  await schema.alterTable('build_refs').addColumn('build_sequence', 'bigint').execute()
  await sql`
    update build_refs set (repository_key, build_sequence) =
      (select repository_key, sequence from builds where builds.id = build_refs.build_id)`.execute(db)
  await schema
    .createIndex('build_refs_of_repository')
    .on('build_refs')
    .columns(['repository_key', 'kind', 'name', 'build_sequence'])
    .execute()
  await schema
    .createIndex('build_refs_of_name')
    .on('build_refs')
    .columns(['kind', 'name', 'build_sequence'])
    .execute()
  await schema
    .createIndex('build_refs_unplaced')
    .on('build_refs')
    .column('build_id')
    .where(sql<boolean>`build_sequence is null`)
    .execute()

  await schema
    .createTable('built_refs')
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('last_sequence', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('built_refs_key', ['repository_key', 'kind', 'name'])
    .execute()
  await sql`
    insert into built_refs (repository_key, kind, name, last_sequence)
    select repository_key, kind, name, max(build_sequence) from build_refs
    group by repository_key, kind, name`.execute(db)
  await schema
    .createIndex('built_refs_by_build')
    .on('built_refs')
    .columns(['repository_key', 'last_sequence'])
    .execute()

  await schema
    .createTable('built_repositories')
    .addColumn('repository_key', 'text', (column) => column.primaryKey())
    .addColumn('last_sequence', 'bigint', (column) => column.notNull())
    .execute()
  await sql`
    insert into built_repositories (repository_key, last_sequence)
    select repository_key, max(sequence) from builds group by repository_key`.execute(db)
  await schema
    .createIndex('built_repositories_by_build')
    .on('built_repositories')
    .column('last_sequence')
    .execute()
}

/** A table of its own: searching through ten thousand rows reads a quarter of a megabyte instead of five. */
async function addTexts(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('build_texts')
    // Only with this type does SQLite store the rows in the order of their key.
    .addColumn('sequence', 'integer', (column) => column.primaryKey())
    .addColumn('sha', 'text', (column) => column.notNull())
    .addColumn('text', 'text', (column) => column.notNull())
    .execute()
  const lineBreak = sql`cast(${'\n'} as text)`
  await sql`
    insert into build_texts (sequence, sha, text)
    select sequence, substr(sha, 1, 6), ${lineBreak} || repository_key || coalesce(${lineBreak} || (
      select lower(string_agg(name, ${lineBreak})) from build_refs where build_refs.build_id = builds.id
    ), '')
    from builds order by sequence`.execute(db)
}

/** Webhooks that built nothing. */
async function addIgnored(db: Kysely<unknown>): Promise<void> {
  await sql`insert into counters (name, value) values ('ignored', 0)`.execute(db)
  await db.schema
    .createTable('ignored_deliveries')
    .addColumn('number', 'bigint', (column) => column.primaryKey())
    .addColumn('id', 'text', (column) => column.notNull().unique())
    .addColumn('event', 'text', (column) => column.notNull())
    .addColumn('repository', 'text')
    .addColumn('repository_key', 'text')
    .addColumn('ref', 'text')
    .addColumn('reason', 'text', (column) => column.notNull())
    .addColumn('created_at', 'text', (column) => column.notNull())
    .execute()
  await db.schema
    .createIndex('ignored_deliveries_of_repository')
    .on('ignored_deliveries')
    .columns(['repository_key', 'number'])
    .execute()
}
