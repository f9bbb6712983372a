import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { type PostgresSource, usePostgres } from '../../db/postgres.ts'
import { migratePostgres } from '../../db/postgres-tables.ts'
import { type PieceStore, patientWriter, type WriterLimits } from '../buffered-writer.ts'
import { FollowedLogs, type LogState } from '../followed-logs.ts'
import type { LogStore, LogWriter, ReadLogOptions } from '../log-store.ts'
import { SharedPieces } from '../shared-pieces.ts'
import * as tables from './tables.ts'

export type PostgresLogStoreOptions = PostgresSource

/** After the first, at most four small chunks a second. */
const LIMITS: WriterLimits = {
  pieceBytes: tables.CHUNK,
  waitingBytes: 1024 * 1024,
  gatherMs: { first: 250, longest: 250 },
  wholeLines: false,
}

/** Sizes are bigints, which arrive as text. */
interface SizeRow {
  size: string
}

/**
 * Logs in a Postgres database: a row for each log, and its bytes in chunks of up to 64 KiB that say where they
 * begin. Readers in other processes see what is written within about half a second.
 *
 * Two writers of one log at once, a worker that lost its lease and the one that took over, mix by chunks: each
 * chunk is appended whole, after whatever is there. What a killed writer had not sent is lost, 250 ms at most.
 * @throws ConveyorError when the database does not answer or refuses.
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
  const writers = new Set<LogWriter>()
  const closing = new AbortController()
  let closed: Promise<void> | undefined

  /** The bytes from `position` up to `position + length`, all of which are there. */
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
    { offset = 0, follow = true }: ReadLogOptions,
    stops: AbortSignal[],
  ): AsyncGenerator<Uint8Array> {
    checkId(buildId)
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new ConveyorError('invalid', `log offset ${offset} is not a whole number of bytes`)
    }
    const stopped = () => stops.some((signal) => signal.aborted)
    if (stopped()) return
    try {
      let position = offset
      for (let state = await followed.look(buildId); ; ) {
        while (position < state.size && !stopped()) {
          // Pieces begin at the same places for all readers.
          const length = Math.min(tables.CHUNK - (position % tables.CHUNK), state.size - position)
          const at = position
          const piece = await pieces.read(buildId, at, length, () => readPiece(buildId, at, length))
          if (piece.length !== length) throw damaged(at)
          position += length
          yield piece
        }
        // Size and end are of one moment: what is there at the end has been read.
        if (state.ended || !follow || stopped()) return
        state = await followed.change(buildId, state, stops)
      }
    } catch (thrown) {
      if (stopped()) return
      throw problem(thrown, buildId)
    }
  }

  async function open(buildId: string): Promise<LogWriter> {
    checkId(buildId)
    const write = (...query: [statement: string, values: unknown[]]) =>
      postgres.query<SizeRow>(...query).catch((thrown) => {
        throw problem(thrown, buildId, ' cannot be written')
      })
    const [opened] = await write(tables.OPEN, [buildId])
    let size = Number(opened?.size)
    const written = (state: LogState) => {
      size = state.size
      followed.tell(buildId, state)
    }

    const pieces: PieceStore = {
      buildId,
      closing: closing.signal,
      async append(chunk, again) {
        const appended = again ? await write(tables.APPENDED, [buildId, chunk, size]) : []
        const [row] = appended.length > 0 ? appended : await write(tables.APPEND, [buildId, chunk])
        if (!row) throw removed(buildId)
        written({ size: Number(row.size), ended: false })
      },
      async end() {
        const [row] = await write(tables.END, [buildId])
        if (!row) throw removed(buildId)
        written({ size: Number(row.size), ended: true })
      },
      done: () => writers.delete(writer),
    }
    const writer = patientWriter(pieces, LIMITS)
    writers.add(writer)
    return writer
  }

  async function close(): Promise<void> {
    closing.abort()
    await Promise.allSettled([...writers].map((writer) => writer.close())).then(async (closed) => {
      await release()
      const failed = closed.find((result) => result.status === 'rejected')
      if (failed) throw failed.reason
    })
  }

  return {
    open,
    read: (buildId, options = {}) =>
      read(buildId, options, options.signal ? [options.signal, closing.signal] : [closing.signal]),
    close: () => (closed ??= close()),
  }
}

function checkId(buildId: string): void {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(buildId)) return
  throw new ConveyorError('invalid', `${JSON.stringify(buildId.slice(0, 80))} is not a build id`, {
    hint: 'Build ids are UUIDs in lower case',
  })
}

function problem(thrown: unknown, buildId: string, what = ''): ConveyorError {
  const { kind, message, hint, retryable } = toConveyorError(thrown, 'the database failed')
  return new ConveyorError(kind, `log of build ${buildId}${what}: ${message}`, {
    ...(hint && { hint }),
    retryable,
    cause: thrown,
  })
}

function removed(buildId: string): ConveyorError {
  const message = `log of build ${buildId} cannot be written: it was removed`
  return new ConveyorError('unavailable', message, { retryable: false })
}

function damaged(position: number): ConveyorError {
  return new ConveyorError('unavailable', `its bytes from ${position} on are missing`, {
    retryable: false,
  })
}
