import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Released migrations are never edited: see migrate.ts. */
export const migrations: Record<string, Migration> = {
  '001_jobs': { up: createTables },
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
