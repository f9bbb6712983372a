import { type Kysely, sql, type Transaction } from 'kysely'
import { ConveyorError } from '../core/errors.ts'
import { type PostgresSource, usePostgres } from '../db/postgres.ts'
import { isConflict } from '../db/postgres-errors.ts'
import { kyselyOn, migratePostgres } from '../db/postgres-tables.ts'
import { KeyedMutex } from '../util/locks/keyed-mutex.ts'
import { retry } from '../util/retry.ts'
import type { BuildStore } from './build-store.ts'
import { groupCommit, type Work } from './sql/group-commit.ts'
import { kyselyBuildStore } from './sql/kysely-build-store.ts'
import { migrations } from './sql/migrations.ts'
import { clockTime, type Schema } from './sql/schema.ts'

export type PostgresBuildStoreOptions = PostgresSource & {
  /** Replaces the database's clock, for tests. */
  now?: () => Date
}

/** Waits before a transaction that conflicted with others is retried, in milliseconds: 0 to 50 each. */
const CONFLICT_RETRIES = { delays: [25, 25, 25, 25], jitter: 1, isRetryable: isConflict }

/**
 * The build store in a Postgres database, shared by any number of processes. What it has acknowledged is as durable as
 * the server's synchronous_commit makes it. READ COMMITTED is enough: every change locks the row that decides about it
 * before it reads others (see accept.ts and `finish`).
 * @throws ConveyorError when the database is unreachable, denies access, or is newer than this version of Conveyor
 */
export async function postgresBuildStore(options: PostgresBuildStoreOptions): Promise<BuildStore> {
  const { postgres, release } = usePostgres(options)
  const db = kyselyOn<Schema>(postgres)
  try {
    await migratePostgres(postgres, { name: 'store', first: 'builds', migrations })
  } catch (error) {
    await release()
    throw error
  }

  const ordered = groupCommit(db, (error) => !isAway(error))
  const running = new Set<Promise<unknown>>()
  // Within the process first: otherwise each of many moves would hold a connection while it waits.
  const images = new KeyedMutex()
  let closing: Promise<void> | undefined

  function unlessClosed<T>(work: () => Promise<T>): Promise<T> {
    if (closing) {
      const message = `database ${postgres.where} is closed: Conveyor is shutting down`
      return Promise.reject(new ConveyorError('unavailable', message))
    }
    const result = work()
    running.add(result)
    const done = () => running.delete(result)
    result.then(done, done)
    return result
  }

  async function close(): Promise<void> {
    while (running.size > 0) await Promise.allSettled(running)
    await release()
  }

  return kyselyBuildStore(db, {
    write: (work) => unlessClosed(() => retry(() => transaction(db, work), CONFLICT_RETRIES)),
    writeInOrder: (work) => unlessClosed(() => retry(() => ordered.write(work), CONFLICT_RETRIES)),
    lockImage: (imageName, work) =>
      images.run(imageName, () => postgres.withLock(`conveyor tags of ${imageName}`, work)),
    time: options.now ? clockTime(options.now) : databaseTime,
    close: () => (closing ??= close()),
  })
}

function databaseTime(inSeconds = 0) {
  return sql<string>`to_char(
    (clock_timestamp() + make_interval(secs => ${inSeconds})) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
}

function transaction<T>(db: Kysely<Schema>, work: Work<Schema, T>): Promise<T> {
  return db.transaction().execute((trx: Transaction<Schema>) => work(trx))
}

/** Whether the database is unreachable: a group that failed would then fail one by one too, after a wait each. */
function isAway(error: unknown): boolean {
  return error instanceof ConveyorError && error.retryable && !isConflict(error)
}
