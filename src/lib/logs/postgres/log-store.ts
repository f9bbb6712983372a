import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { type PostgresSource, usePostgres } from '../../db/postgres.ts'
import { migratePostgres } from '../../db/postgres-tables.ts'
import { isStopped, logStore, type ReadRange } from '../backend.ts'
import type { BufferLimits, OpenLog } from '../buffered-writer.ts'
import type { LogStore } from '../log-store.ts'
import type { FollowedState } from '../next-state.ts'
import { SharedPieces } from '../shared-pieces.ts'
import { FollowedLogs } from './followed-logs.ts'
import * as tables from './tables.ts'

export type PostgresLogStoreOptions = PostgresSource

/** At most four small chunks a second, after the first. */
const LIMITS: BufferLimits = {
  batchBytes: tables.CHUNK,
  bufferBytes: 1024 * 1024,
  lingerMs: { first: 250, longest: 250 },
  wholeLines: false,
  retryMs: 60_000,
}

/** Sizes are bigints, which pg returns as text. */
interface SizeRow {
  size: string
}

/**
 * Logs in a Postgres database: a row for each log, and its bytes in chunks of up to 64 KiB with their offsets. Readers in
 * other processes see new bytes within about half a second.
 *
 * Chunks of two concurrent writers of one log, a worker that lost its lease and the one that took over, interleave: each
 * is appended whole. A killed writer loses at most the last 250 ms.
 * @throws ConveyorError when the database is unreachable or denies access
 */
export async function postgresLogStore(options: PostgresLogStoreOptions): Promise<LogStore> {
  const { postgres, release } = usePostgres(options)
  try {
    await migratePostgres(postgres, {
      name: 'logs',
      first: 'build_logs',
      migrations: tables.migrations,
    })
  } catch (error) {
    await release()
    throw error
  }

  const followed = new FollowedLogs(async (buildIds) => {
    const rows = await postgres.query<SizeRow & { build_id: string; ended: boolean }>({
      name: 'conveyor-logs',
      text: tables.STATES,
      values: [buildIds],
    })
    return new Map(rows.map(({ build_id, size, ended }) => [build_id, { size: Number(size), ended }]))
  })
  const pieces = new SharedPieces()

  /** The bytes from `position` up to `position + length`, all of which are stored. */
  async function readPiece(buildId: string, position: number, length: number): Promise<Uint8Array> {
    const rows = await postgres.query<{ bytes: Uint8Array }>({
      name: 'conveyor-log',
      text: tables.READ,
      values: [buildId, position, position + length],
    })
    const [only] = rows
    return rows.length === 1 && only ? only.bytes : Buffer.concat(rows.map(({ bytes }) => bytes))
  }

  async function* read(
    buildId: string,
    { offset, follow }: ReadRange,
    stops: AbortSignal[],
  ): AsyncGenerator<Uint8Array> {
    try {
      let position = offset
      for (let state = await followed.look(buildId); ; ) {
        while (position < state.size && !isStopped(stops)) {
          // Pieces start at the same offsets for all readers.
          const length = Math.min(tables.CHUNK - (position % tables.CHUNK), state.size - position)
          const at = position
          const piece = await pieces.read(buildId, at, length, () => readPiece(buildId, at, length))
          if (piece.length !== length) throw incomplete(at)
          position += length
          yield piece
        }
        // Size and end are from one query: an ended log has been read completely.
        if (state.ended || !follow || isStopped(stops)) return
        state = await followed.change(buildId, state, stops)
      }
    } catch (thrown) {
      throw problem(thrown, buildId)
    }
  }

  async function open(buildId: string): Promise<OpenLog> {
    const write = (...query: [statement: string, values: unknown[]]) =>
      postgres.query<SizeRow>(...query).catch((thrown) => {
        throw problem(thrown, buildId, ' cannot be written')
      })
    const [opened] = await write(tables.OPEN, [buildId])
    let size = Number(opened?.size)
    const written = (state: FollowedState) => {
      size = state.size
      followed.wrote(buildId, state)
    }

    return {
      async append(chunk, isRetry) {
        const appended = isRetry ? await write(tables.APPENDED, [buildId, chunk, size]) : []
        const [row] = appended.length > 0 ? appended : await write(tables.APPEND, [buildId, chunk])
        if (!row) throw removed(buildId)
        written({ size: Number(row.size), ended: false })
      },
      async end() {
        const [row] = await write(tables.END, [buildId])
        if (!row) throw removed(buildId)
        written({ size: Number(row.size), ended: true })
      },
    }
  }

  return logStore({ limits: LIMITS, open, read, close: release })
}

function problem(thrown: unknown, buildId: string, what = ''): ConveyorError {
  const { kind, message, hint, retryable } = toConveyorError(thrown, 'database query failed')
  return new ConveyorError(kind, `log of build ${buildId}${what}: ${message}`, {
    ...(hint && { hint }),
    retryable,
    cause: thrown,
  })
}

function removed(buildId: string): ConveyorError {
  const message = `log of build ${buildId} cannot be written: it was deleted`
  return new ConveyorError('unavailable', message, { retryable: false })
}

function incomplete(position: number): ConveyorError {
  return new ConveyorError('unavailable', `bytes from offset ${position} on are missing`, {
    retryable: false,
  })
}
