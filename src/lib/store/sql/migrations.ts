import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { addComparisons } from './comparing/migration.ts'
import { addLists } from './lists/migration.ts'
import { addNotifications, addReasons } from './outbound/migrations.ts'
import { addPulls } from './pulls/migration.ts'
import { addSessions } from './secrets/sessions.ts'
import { addTurnsOfBuilds } from './waiting/migration.ts'

/**
 * Every schema change by name, oldest first. Released migrations are never edited: a change is a new entry. Written with
 * Kysely's schema builder, so that SQLite and Postgres run the same list.
 */
export const migrations: Record<string, Migration> = {
  '001_builds': { up: createBuilds },
  '002_recipes': { up: addRecipes },
  '003_trees': { up: addTrees },
  '004_queues': { up: addQueues },
  '005_repositories': { up: addRepositories },
  '006_context_syncs': { up: addContextSyncs },
  '007_pushes': { up: addPushes },
  '008_secrets': { up: addSecrets },
  '009_suspects': { up: addSuspects },
  '010_timelines': { up: addTimelines },
  '011_access_tokens': { up: addAccessTokens },
  '012_cancels': { up: addCancels },
  '013_lists': { up: addLists },
  '014_timeline_summaries': { up: addTimelineSummaries },
  '015_workers': { up: addWorkers },
  '016_traces': { up: addTraces },
  '017_comparisons': { up: addComparisons },
  '018_turns_of_builds': { up: addTurnsOfBuilds },
  '019_pulls': { up: addPulls },
  '020_notifications': { up: addNotifications },
  '021_reasons': { up: addReasons },
  '022_sessions': { up: addSessions },
  '023_check_runs': { up: addCheckRuns },
}

/** Where the time of each build went. */
async function addTimelines(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('timelines')
    .addColumn('build_id', 'text', (column) => column.primaryKey().references('builds.id'))
    .addColumn('attempt', 'integer', (column) => column.notNull())
    .addColumn('timeline', 'text', (column) => column.notNull())
    .execute()
}

/** Who runs builds, and when a build that failed is tried again. */
async function addWorkers(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('workers')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('info', 'text', (column) => column.notNull())
    .addColumn('started_at', 'text', (column) => column.notNull())
    .addColumn('seen_at', 'text', (column) => column.notNull())
    .execute()
  await db.schema.alterTable('builds').addColumn('retry_at', 'text').execute()
}

/** The trace that each build continues, wherever it runs. */
async function addTraces(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('builds').addColumn('trace', 'text').execute()
}

/** The check run of each build at the forge. */
async function addCheckRuns(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('check_runs')
    .addColumn('build_id', 'text', (column) => column.primaryKey().references('builds.id'))
    .addColumn('run_id', 'bigint')
    .addColumn('making_until', 'text')
    .addColumn('refused', 'integer', (column) => column.notNull().defaultTo(0))
    .execute()
}

/** What lists show of timelines, without reading them. */
async function addTimelineSummaries(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('timelines').addColumn('summary', 'text').execute()
}

/** What each image was built from, so that it is built only once. */
async function addRecipes(db: Kysely<unknown>): Promise<void> {
  for (const column of ['recipe_key', 'recipe', 'bases']) {
    await db.schema.alterTable('artifacts').addColumn(column, 'text').execute()
  }
  await db.schema.createIndex('artifacts_by_recipe').on('artifacts').column('recipe_key').execute()
  await db.schema.createIndex('artifacts_by_image').on('artifacts').column('image').execute()
}

/** The git tree of each build's commit: commits with the same tree produce the same image. */
async function addTrees(db: Kysely<unknown>): Promise<void> {
  for (const table of ['builds', 'artifacts']) {
    await db.schema.alterTable(table).addColumn('tree', 'text').execute()
  }
  await db.schema.createIndex('artifacts_by_tree').on('artifacts').column('tree').execute()
}

/** For queues on another machine: jobs may get lost before they are queued, or be delivered twice. */
async function addQueues(db: Kysely<unknown>): Promise<void> {
  const builds = db.schema.alterTable('builds')
  await builds.addColumn('queued', 'integer', (column) => column.notNull().defaultTo(0)).execute()
  await builds.addColumn('held_until', 'text').execute()
}

/** To find the last builds of a repository quickly, however few they are. */
async function addRepositories(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createIndex('builds_of_repository')
    .on('builds')
    .columns(['repository_key', 'sequence'])
    .execute()
}

/** Which files of each repository each BuildKit has, so that unchanged ones keep their times. */
async function addContextSyncs(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('context_syncs')
    .addColumn('buildkit', 'text', (column) => column.notNull())
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('token', 'text', (column) => column.notNull())
    .addColumn('previous', 'text')
    .addColumn('files', 'bytea')
    .addColumn('updated_at', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('context_syncs_key', ['buildkit', 'repository_key'])
    .execute()
}

/**
 * The contents of pushes, the owners of Docker tags, and the spelling of repositories. For earlier pushes only the commit
 * is known, so the order of the next push is decided by the git server; and the first owner of a tag is looked up on
 * demand: see tag-owners.ts.
 */
async function addPushes(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('pushes')
    .addColumn('sequence', 'bigint', (column) => column.primaryKey())
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('sha', 'text', (column) => column.notNull())
    .addColumn('kind', 'text')
    .addColumn('name', 'text')
    .addColumn('before', 'text')
    .addColumn('after', 'text')
    .addColumn('pushed_at', 'bigint')
    .addColumn('signed', 'integer', (column) => column.notNull())
    .addColumn('unproven', 'integer', (column) => column.notNull())
    .addColumn('again', 'integer', (column) => column.notNull())
    .addColumn('build_id', 'text', (column) => column.notNull())
    .execute()
  // Several builds may have one number: a commit that was built again kept it.
  await sql`
    insert into pushes (sequence, repository_key, sha, kind, name, signed, unproven, again, build_id)
    select build_refs.sequence, min(repository_key), min(sha), min(kind), min(name), 0, 0, 0, min(builds.id)
    from build_refs join builds on builds.id = build_refs.build_id
    group by build_refs.sequence`.execute(db)
  await schema
    .createIndex('pushes_of_ref')
    .on('pushes')
    .columns(['repository_key', 'kind', 'name', 'pushed_at'])
    .execute()
  await schema
    .createIndex('pushes_of_repository')
    .on('pushes')
    .columns(['repository_key', 'pushed_at'])
    .execute()
  await schema.createIndex('pushes_of_commit').on('pushes').columns(['repository_key', 'sha']).execute()

  await schema
    .createTable('tag_owners')
    .addColumn('image_name', 'text', (column) => column.notNull())
    .addColumn('tag', 'text', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('tag_owners_key', ['image_name', 'tag'])
    .execute()
  await schema
    .createIndex('tag_owners_of_ref')
    .on('tag_owners')
    .columns(['image_name', 'kind', 'name'])
    .execute()
  await schema
    .createTable('repositories')
    .addColumn('repository_key', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .execute()
  await schema.alterTable('builds').addColumn('withheld', 'text').execute()
}

/** Secrets shared by all processes. */
async function addSecrets(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('secrets')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'text', (column) => column.notNull())
    .execute()
}

/** Which process builds what, to know which builds were running when it died. */
async function addSuspects(db: Kysely<unknown>): Promise<void> {
  for (const column of ['worker', 'suspect']) {
    await db.schema.alterTable('builds').addColumn(column, 'text').execute()
  }
  await db.schema
    .alterTable('builds')
    .addColumn('spared', 'integer', (column) => column.notNull().defaultTo(0))
    .execute()
  await sql`insert into counters (name, value) values ('take-overs', 0)`.execute(db)
}

/** Tokens for the API. */
async function addAccessTokens(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('access_tokens')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('scope', 'text', (column) => column.notNull())
    .addColumn('repositories', 'text', (column) => column.notNull())
    .addColumn('created_by', 'text', (column) => column.notNull())
    .addColumn('created_at', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'text')
    .addColumn('last_used_at', 'text')
    .addColumn('revoked_at', 'text')
    .execute()
  await db.schema
    .createIndex('access_tokens_active')
    .unique()
    .on('access_tokens')
    .column('name')
    .where(sql<boolean>`revoked_at is null`)
    .execute()
}

/**
 * Who asked for a build to be cancelled. Until its worker has stopped, a new request for the same commit gets a build of
 * its own.
 */
async function addCancels(db: Kysely<unknown>): Promise<void> {
  for (const column of ['cancel_by', 'cancel_at']) {
    await db.schema.alterTable('builds').addColumn(column, 'text').execute()
  }
  await db.schema
    .alterTable('builds')
    .addColumn('publishing', 'integer', (column) => column.notNull().defaultTo(0))
    .execute()
  await db.schema.dropIndex('builds_in_flight').execute()
  await db.schema
    .createIndex('builds_in_flight')
    .unique()
    .on('builds')
    .columns(['repository_key', 'sha'])
    .where(sql<boolean>`state in ('pending', 'building') and cancel_by is null`)
    .execute()
}

async function createBuilds(db: Kysely<unknown>): Promise<void> {
  const { schema } = db

  await schema
    .createTable('counters')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'bigint', (column) => column.notNull())
    .execute()
  await sql`insert into counters (name, value) values ('sequence', 0)`.execute(db)

  await schema
    .createTable('builds')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('sequence', 'bigint', (column) => column.notNull().unique())
    .addColumn('repository', 'text', (column) => column.notNull())
    .addColumn('repository_key', 'text', (column) => column.notNull())
    .addColumn('sha', 'text', (column) => column.notNull())
    .addColumn('default_branch', 'text')
    .addColumn('cache', 'integer', (column) => column.notNull())
    .addColumn('push_order', 'bigint', (column) => column.notNull())
    .addColumn('state', 'text', (column) =>
      column.notNull().check(sql`state in ('pending', 'building', 'succeeded', 'failed', 'cancelled')`),
    )
    .addColumn('attempt', 'integer', (column) => column.notNull().defaultTo(0))
    .addColumn('ref_repushed', 'integer', (column) => column.notNull().defaultTo(0))
    .addColumn('error', 'text')
    .addColumn('error_kind', 'text')
    .addColumn('reported', 'integer', (column) => column.notNull().defaultTo(0))
    .addColumn('created_at', 'text', (column) => column.notNull())
    .addColumn('started_at', 'text')
    .addColumn('completed_at', 'text')
    .execute()
  await schema
    .createIndex('builds_in_flight')
    .unique()
    .on('builds')
    .columns(['repository_key', 'sha'])
    .where(sql<boolean>`state in ('pending', 'building')`)
    .execute()
  await schema
    .createIndex('builds_unfinished')
    .on('builds')
    .column('sequence')
    .where(sql<boolean>`state in ('pending', 'building')`)
    .execute()
  await schema
    .createIndex('builds_of_commit')
    .on('builds')
    .columns(['repository_key', 'sha', 'sequence'])
    .execute()
  await schema
    .createIndex('builds_to_report')
    .on('builds')
    .column('sequence')
    .where(sql<boolean>`reported = 0`)
    .execute()

  await schema
    .createTable('build_refs')
    .addColumn('build_id', 'text', (column) => column.notNull().references('builds.id'))
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('sequence', 'bigint', (column) => column.notNull())
    .addColumn('position', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('build_refs_key', ['build_id', 'kind', 'name'])
    .execute()

  await schema
    .createTable('artifacts')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('build_id', 'text', (column) => column.notNull().unique().references('builds.id'))
    .addColumn('image', 'text', (column) => column.notNull())
    .addColumn('tags', 'text', (column) => column.notNull())
    .addColumn('created_at', 'text', (column) => column.notNull())
    .execute()

  await schema
    .createTable('deliveries')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('build_id', 'text', (column) => column.notNull().references('builds.id'))
    .addColumn('created_at', 'text', (column) => column.notNull())
    .execute()
  await schema.createIndex('deliveries_by_age').on('deliveries').column('created_at').execute()

  await schema
    .createTable('tag_positions')
    .addColumn('image_name', 'text', (column) => column.notNull())
    .addColumn('tag', 'text', (column) => column.notNull())
    .addColumn('sequence', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('tag_positions_key', ['image_name', 'tag'])
    .execute()
}
