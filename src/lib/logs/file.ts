import { EventEmitter } from 'node:events'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError } from '../core/errors.ts'
import type { LogStore, LogWriter, ReadLogOptions } from './log-store.ts'
import { SharedPieces } from './shared-pieces.ts'

export interface FileLogStoreOptions {
  /** Folder of the logs; made when the first log is opened. */
  dir: string
}

/** The largest piece that a reader gets. */
const PIECE = 64 * 1024
/** Bytes that may wait for the disk before a writer has to wait too. */
const HIGH_WATER = 1024 * 1024
/** How often a reader looks for what another process wrote. */
const POLL_MS = 250
/**
 * A reader looks no more often than this, in milliseconds. Otherwise a build that writes thousands of short
 * lines a second would have every reader fetch every line by itself.
 */
const PAUSE_MS = 25

/**
 * Logs as files: `<id>.log.part` while a build writes, renamed to `<id>.log` when it ended. The rename
 * is the end marker, for readers in every process. To open a log that was ended renames it back: that
 * happens when a build is tried again after its end was logged but before its end was stored.
 *
 * What was written survives the end of this process (not of the machine: nothing is synced). A chunk
 * belongs to the writer from `write` on. After a failed write the log stays as it is, and the writer answers
 * everything with the same ConveyorError `unavailable`; an `end` nevertheless lets the readers come to an end.
 */
export function fileLogStore({ dir }: FileLogStoreOptions): LogStore {
  /** Tells readers in this process, by build id, that there is more to see. */
  const bell = new EventEmitter().setMaxListeners(0)
  const reads = new SharedPieces()
  const closing = new AbortController()
  const writers = new Set<LogWriter>()

  return {
    async open(buildId) {
      const paths = pathsOf(dir, buildId)
      const failed = failure(`log of build ${buildId} cannot be written`, dir)
      const handle = await openForAppending(dir, paths).catch((error) => {
        throw failed(error)
      })
      const writer = fileWriter(handle, {
        buildId,
        failed,
        written: () => bell.emit(buildId),
        markEnded: () => markEnded(paths),
        done: () => writers.delete(writer),
      })
      writers.add(writer)
      return writer
    },

    read(buildId, options = {}) {
      const stops = options.signal ? [options.signal, closing.signal] : [closing.signal]
      return readLog(dir, buildId, options, stops, bell, reads)
    },

    async close() {
      closing.abort()
      await Promise.all([...writers].map((writer) => writer.close()))
    },
  }
}

interface Paths {
  /** Where a log is while it grows. */
  part: string
  /** Where it is when it ended. */
  ended: string
}

/** A build id is checked before it becomes a path. */
function pathsOf(dir: string, buildId: string): Paths {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(buildId)) {
    throw new ConveyorError('invalid', `${JSON.stringify(buildId.slice(0, 80))} is not a build id`, {
      hint: 'Build ids are UUIDs in lower case',
    })
  }
  const ended = join(dir, `${buildId}.log`)
  return { ended, part: `${ended}.part` }
}

async function openForAppending(dir: string, { part, ended }: Paths): Promise<FileHandle> {
  const { O_APPEND, O_WRONLY, O_CREAT, O_EXCL } = constants
  await mkdir(dir, { recursive: true })
  for (;;) {
    // One step after the other, so that a log which another process ends just now is never begun anew beside it.
    const existing = await ifThere(open(part, O_WRONLY | O_APPEND))
    if (existing) return existing
    if ((await ifThere(rename(ended, part).then(() => true))) === null) {
      const created = await ifThere(open(part, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, 0o640), 'EEXIST')
      if (created) return created
    }
  }
}

async function markEnded({ part, ended }: Paths): Promise<void> {
  // Somebody else may have ended it already: a worker that lost its lease, and the one that took over.
  if ((await ifThere(rename(part, ended).then(() => true))) === null) await stat(ended)
}

/** Null when there is no such file (or, with EEXIST, when there is one). */
async function ifThere<T>(work: Promise<T>, code: 'ENOENT' | 'EEXIST' = 'ENOENT'): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === code) return null
    throw error
  }
}

function failure(what: string, dir: string): (error: unknown) => ConveyorError {
  return (error) => {
    const { message } = error as Error
    return new ConveyorError('unavailable', `${what}: ${message}`, {
      hint: `Check the folder ${dir}, and the free space on its disk`,
      cause: error,
    })
  }
}

interface WriterHooks {
  buildId: string
  failed(error: unknown): ConveyorError
  /** More bytes are in the file, or the log ended. */
  written(): void
  markEnded(): Promise<void>
  done(): void
}

function fileWriter(handle: FileHandle, hooks: WriterHooks): LogWriter {
  let waiting: Uint8Array[] = []
  let waitingBytes = 0
  let error: ConveyorError | null = null
  let closed: Promise<void> | null = null
  let ended: Promise<void> | null = null
  /** Settles, and never rejects, when nothing is waiting any more. */
  let pumping: Promise<void> | null = null
  let room = Promise.withResolvers<void>()

  /** Many small writes that come while the disk is busy become one. */
  async function pump(): Promise<void> {
    while (waiting.length > 0 && !error) {
      const batch = waiting
      waiting = []
      const bytes = batch.length === 1 && batch[0] ? batch[0] : Buffer.concat(batch)
      waitingBytes = 0
      room.resolve()
      room = Promise.withResolvers()
      try {
        await handle.appendFile(bytes)
      } catch (cause) {
        error = hooks.failed(cause)
        room.resolve()
      }
      hooks.written()
    }
    pumping = null
  }

  async function write(chunk: Uint8Array | string): Promise<void> {
    if (closed) throw new ConveyorError('invalid', `log of build ${hooks.buildId} is closed already`)
    if (error) throw error
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (bytes.length === 0) return
    waiting.push(bytes)
    waitingBytes += bytes.length
    pumping ??= pump()
    while (waitingBytes > HIGH_WATER && !error) await room.promise
    if (error) throw error
  }

  async function flushAndClose(): Promise<void> {
    await pumping
    hooks.done()
    await handle.close().catch((cause) => {
      error ??= hooks.failed(cause)
    })
  }

  function settle(): Promise<void> {
    closed ??= flushAndClose()
    return closed
  }

  async function close(): Promise<void> {
    await settle()
    if (error) throw error
  }

  async function markEnd(): Promise<void> {
    await settle()
    await hooks.markEnded().catch((cause) => {
      error ??= hooks.failed(cause)
    })
    hooks.written()
  }

  return {
    write(chunk) {
      const result = write(chunk)
      // Whoever does not wait for a write learns of its failure from flush, close or end.
      result.catch(() => {})
      return result
    },
    async flush() {
      await pumping
      if (error) throw error
    },
    close,
    async end() {
      ended ??= markEnd()
      await ended
      if (error) throw error
    },
  }
}

async function* readLog(
  dir: string,
  buildId: string,
  { offset = 0, follow = true }: ReadLogOptions,
  stops: AbortSignal[],
  bell: EventEmitter,
  reads: SharedPieces,
): AsyncGenerator<Uint8Array> {
  const { part, ended } = pathsOf(dir, buildId)
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new ConveyorError('invalid', `log offset ${offset} is not a whole number of bytes`)
  }
  const news = new News(bell, buildId, stops)
  const stopped = () => stops.some((signal) => signal.aborted)
  let handle: FileHandle | null = null
  try {
    let position = offset
    while (!stopped()) {
      news.forget()
      // The end is looked for before the size: what is there at the end was written before it.
      const hasEnded = (await ifThere(stat(ended))) !== null
      handle ??= (await ifThere(open(part))) ?? (await ifThere(open(ended)))
      if (hasEnded && !handle) continue // renamed back between the two looks
      const { size, nlink } = handle ? await handle.stat() : { size: 0, nlink: 1 }
      while (handle && position < size && !stopped()) {
        // Pieces begin at the same places for all readers.
        const length = Math.min(PIECE - (position % PIECE), size - position)
        const piece = await readShared(reads, buildId, handle, position, length)
        if (piece.length === 0) break
        position += piece.length
        yield piece
      }
      // No name left: the log was removed, and nothing will come.
      if (hasEnded || nlink === 0 || !follow) return
      await news.wait()
    }
  } catch (error) {
    if (error instanceof ConveyorError) throw error
    throw failure(`log of build ${buildId} cannot be read`, dir)(error)
  } finally {
    news.stop()
    await handle?.close()
  }
}

function readShared(
  reads: SharedPieces,
  buildId: string,
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array> {
  return reads.read(buildId, position, length, () => readPiece(handle, position, length))
}

async function readPiece(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const piece = Buffer.allocUnsafe(length)
  const { bytesRead } = await handle.read(piece, 0, length, position)
  return piece.subarray(0, bytesRead)
}

/** Wakes one reader: at once for what happens in this process or an abort, by polling for everything else. */
class News {
  #there = false
  #wake: (() => void) | null = null
  #lookedAt = 0
  readonly #ring = () => {
    this.#there = true
    this.#wake?.()
  }
  readonly stop: () => void

  constructor(bell: EventEmitter, buildId: string, stops: AbortSignal[]) {
    bell.on(buildId, this.#ring)
    for (const signal of stops) signal.addEventListener('abort', this.#ring)
    this.stop = () => {
      bell.off(buildId, this.#ring)
      for (const signal of stops) signal.removeEventListener('abort', this.#ring)
    }
  }

  forget(): void {
    this.#there = false
    this.#lookedAt = Date.now()
  }

  async wait(): Promise<void> {
    if (!this.#there) await this.#ringOrPoll()
    const pause = this.#lookedAt + PAUSE_MS - Date.now()
    if (pause > 0) await sleep(pause)
  }

  async #ringOrPoll(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, POLL_MS)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = null
  }
}
