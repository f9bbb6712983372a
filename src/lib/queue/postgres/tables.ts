import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Released migrations are never edited: see migrate.ts. */
export const migrations: Record<string, Migration> = {
  '001_jobs': { up: createTables },
  '002_turns': { up: addTurns },
}

/** In which order jobs are delivered: see Turn. */
async function addTurns(db: Kysely<unknown>): Promise<void> {
  await sql`alter table queue_jobs
    add column lane smallint not null default 1, add column round bigint not null default 0`.execute(db)
  await sql`create index queue_jobs_in_turn on queue_jobs (lane, round, seq)`.execute(db)
  await sql`create index queue_jobs_in_turn_by_repository on queue_jobs (repository, lane, round, seq)`.execute(
    db,
  )
  await sql`drop index queue_jobs_by_repository`.execute(db)
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  // Rows come and go, and are updated in place while leased: leave room for that, and vacuum often.
  await sql`
    create table queue_jobs (
      build_id text primary key,
      repository text not null,
      seq bigint generated always as identity unique,
      queued_at timestamptz not null default now(),
      available_at timestamptz not null default now(),
      leased boolean not null default false,
      deliveries integer not null default 0
    ) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500)`.execute(
    db,
  )
  await sql`create index queue_jobs_by_repository on queue_jobs (repository, seq)`.execute(db)
  // Unlogged: losing waiters is harmless, as they all register again after a crash of the server.
  await sql`
    create unlogged table queue_waiters (
      id text primary key,
      waiting integer not null,
      warm text[] not null,
      woken_at timestamptz,
      expires_at timestamptz not null
    ) with (fillfactor = 50)`.execute(db)
}
