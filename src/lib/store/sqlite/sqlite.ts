import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { ConveyorError } from '../../core/errors.ts'
import { migrate } from '../../db/migrate.ts'
import { KeyedMutex } from '../../util/locks/keyed-mutex.ts'
import type { BuildStore } from '../build-store.ts'
import { LONGEST_LEASE_S } from '../fleet.ts'
import { groupCommit, type Work } from '../sql/group-commit.ts'
import { kyselyBuildStore } from '../sql/kysely-build-store.ts'
import { migrations } from '../sql/migrations.ts'
import { clockTime, type Schema } from '../sql/schema.ts'
import { Checkpoints } from './checkpoints.ts'
import { NodeSqliteDialect } from './dialect.ts'

export interface SqliteBuildStoreOptions {
  /** Path of the database, created with its directory if missing; or `:memory:`. */
  file: string
  /** The clock, for tests. */
  now?: () => Date
}

const BUSY_TIMEOUT_MS = 500

/**
 * The build store in one SQLite file, which this process owns exclusively. What it has acknowledged is on disk, and
 * survives a kill and a power cut. The lock on the file is released when the process ends, however it ends.
 * @throws ConveyorError when the file is in use, corrupt, newer than this version of Conveyor, or not writable
 */
export async function sqliteBuildStore({ file, now }: SqliteBuildStoreOptions): Promise<BuildStore> {
  const inMemory = file === ':memory:'
  const time = clockTime(now)
  if (!inMemory) await createPrivately(file)
  const explain = (thrown: unknown) => explainSqlite(thrown, file)
  const database = await openExclusively(file)
  const db = new Kysely<Schema>({ dialect: new NodeSqliteDialect(database, explain) })
  try {
    await migrate(db, { migrations, where: `database ${file}` })
    // This process alone has the file: whoever held a lease is gone.
    await db.deleteFrom('leases').where('held_until', '<=', time(LONGEST_LEASE_S)).execute()
    if (!inMemory)
      await writeFile(holderFile(file), `process ${process.pid} on ${hostname()}`, { mode: 0o600 })
  } catch (error) {
    if (database.isOpen) database.close()
    throw error instanceof ConveyorError ? error : explain(error)
  }

  const { write, idle } = groupCommit(db)
  const checkpoints = new Checkpoints(database)
  const images = new KeyedMutex()
  let closing: Promise<void> | undefined
  async function close(): Promise<void> {
    await idle()
    checkpoints.stop()
    if (!inMemory) await rm(holderFile(file), { force: true })
    await db.destroy()
  }
  const open = <T>(work: Work<Schema, T>) =>
    closing ? Promise.reject(closed(file)) : write(work).finally(checkpoints.wrote)
  return kyselyBuildStore(db, {
    write: open,
    writeInOrder: open,
    lockImage: (imageName, work) => images.run(imageName, work),
    time,
    close: () => (closing ??= close()),
  })
}

/**
 * Creates the file so that no other user of the machine can read it. SQLite gives its other files the same mode.
 * An existing file is not opened: closing any handle on it would drop the locks that this process holds on it.
 */
async function createPrivately(file: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    const created = await open(file, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    await created?.close()
  } catch (error) {
    const { message } = error as Error
    throw new ConveyorError('unavailable', `cannot create database ${file}: ${message}`, {
      hint: 'Check the path and its permissions, or choose another directory with --data-dir',
      retryable: false,
      cause: error,
    })
  }
}

/** Opens the file and locks it until it is closed or the process ends. */
async function openExclusively(file: string): Promise<DatabaseSync> {
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file)
    database.exec(`
      pragma busy_timeout = ${BUSY_TIMEOUT_MS};
      pragma locking_mode = exclusive;
      pragma journal_mode = wal;
      pragma synchronous = full;
      pragma foreign_keys = on;
      begin exclusive;
      commit;
    `)
    const tables = database.prepare(`select name from sqlite_schema where type = 'table'`).all()
    if (tables.length > 0 && !tables.some((table) => table.name === 'kysely_migration')) {
      throw new ConveyorError('invalid', `database ${file} belongs to another program`, {
        hint: 'Choose a file that does not exist yet, or another directory with --data-dir',
      })
    }
    return database
  } catch (error) {
    database?.close()
    if (error instanceof ConveyorError) throw error
    throw isBusy(error) ? await inUse(file) : explainSqlite(error, file)
  }
}

/** A file next to the database that names its owner, for the error that another process gets. */
function holderFile(file: string): string {
  return `${file}.holder`
}

async function inUse(file: string): Promise<ConveyorError> {
  const holder = await readFile(holderFile(file), 'utf8').catch(() => 'unknown process')
  return new ConveyorError('unavailable', `database ${file} is in use by another Conveyor (${holder})`, {
    hint: 'Stop that one, or choose another directory for this one with --data-dir',
    retryable: false,
  })
}

function closed(file: string): ConveyorError {
  return new ConveyorError('unavailable', `database ${file} is closed: Conveyor is shutting down`)
}

// Primary result codes: https://www.sqlite.org/rescode.html
const BUSY = 5
const READ_ONLY = 8
const CORRUPT = 11
const FULL = 13
const CANNOT_OPEN = 14
const NOT_A_DATABASE = 26

function resultCode(thrown: unknown): number | undefined {
  const { errcode } = thrown as { errcode?: number }
  // The higher bits distinguish variants, which makes no difference here.
  return errcode === undefined ? undefined : errcode & 0xff
}

function isBusy(thrown: unknown): boolean {
  return resultCode(thrown) === BUSY
}

function explainSqlite(thrown: unknown, file: string): ConveyorError {
  const reason = thrown instanceof Error ? thrown.message : String(thrown)
  const problem = (what: string, hint?: string, retryable = false) =>
    new ConveyorError('unavailable', `database ${file} ${what}: ${reason}`, {
      ...(hint && { hint }),
      retryable,
      cause: thrown,
    })
  switch (resultCode(thrown)) {
    case CORRUPT:
    case NOT_A_DATABASE:
      return problem('is corrupt', 'Restore it from a backup, or move it away to start with an empty one')
    case FULL:
      return problem('is out of disk space', 'Free up disk space', true)
    case READ_ONLY:
    case CANNOT_OPEN:
      return problem('is not writable', 'Check the path and its permissions')
    default:
      return problem('failed', undefined, true)
  }
}
