import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Released migrations are never edited: see migrate.ts. */
export const migrations: Record<string, Migration> = {
  '001_logs': { up: createTables },
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table build_logs (
      build_id uuid primary key,
      size bigint not null default 0,
      ended boolean not null default false
    ) with (fillfactor = 50)`.execute(db)
  await sql`
    create table build_log_chunks (
      build_id uuid not null references build_logs,
      start bigint not null,
      bytes bytea not null,
      primary key (build_id, start)
    )`.execute(db)
}

/** The largest chunk, in bytes; also the largest piece that a reader gets. */
export const CHUNK = 64 * 1024

/** 1: build id. */
export const OPEN = `
  insert into build_logs (build_id) values ($1)
  on conflict (build_id) do update set ended = false returning size`

/**
 * 1: build id, 2: bytes. Reserves its range under the lock of the log's row, so that chunks of two concurrent writers (a
 * worker that lost its lease, and the one that took over) never overlap.
 */
export const APPEND = `
  with log as (
    update build_logs set size = size + octet_length($2::bytea) where build_id = $1 returning size
  ), chunk as (
    insert into build_log_chunks select $1, size - octet_length($2::bytea), $2::bytea from log
  )
  select size from log`

/** 1: build id, 2: bytes, 3: the lowest offset at which they may be. */
export const APPENDED = `
  select size from build_logs where build_id = $1 and exists (
    select from build_log_chunks where build_id = $1 and start >= $3 and bytes = $2::bytea)`

/** 1: build id. */
export const END = 'update build_logs set ended = true where build_id = $1 returning size'

/** 1: build ids. */
export const STATES = 'select build_id, size, ended from build_logs where build_id = any($1::uuid[])'

/** The parts of the chunks that lie in a range. 1: build id, 2: first byte, 3: the one after the last. */
export const READ = `
  select substring(bytes
    from (greatest($2::bigint - start, 0) + 1)::int for ($3::bigint - greatest($2::bigint, start))::int) as bytes
  from build_log_chunks
  where build_id = $1 and start > $2::bigint - ${CHUNK} and start < $3::bigint
    and start + octet_length(bytes) > $2::bigint
  order by start`
