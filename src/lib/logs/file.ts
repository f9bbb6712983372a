import { EventEmitter } from 'node:events'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError } from '../core/errors.ts'
import { isStopped, logStore, type ReadRange } from './backend.ts'
import type { BufferLimits } from './buffered-writer.ts'
import type { LogStore } from './log-store.ts'
import { SharedPieces } from './shared-pieces.ts'

export interface FileLogStoreOptions {
  /** Directory of the logs; created when the first log is opened. */
  dir: string
}

/** The largest piece that a reader gets, in bytes. */
const PIECE = 64 * 1024
/** Small writes are combined while the disk is busy. Not retried: a failed write may have stored a part. */
const LIMITS: BufferLimits = {
  batchBytes: 1024 * 1024,
  bufferBytes: 2 * 1024 * 1024,
  lingerMs: { first: 0, longest: 0 },
  wholeLines: false,
  retryMs: 0,
}
/** How often readers check for writes of other processes. */
const POLL_MS = 250
/**
 * The shortest time between two reads of a follower, in milliseconds. Otherwise, a build that writes thousands of short
 * lines a second would make every reader fetch each line separately.
 */
const PAUSE_MS = 25

/**
 * Logs as files: `<id>.log.part` while a build writes, renamed to `<id>.log` when it has ended. The rename is the end
 * marker, for readers in every process. Opening an ended log renames it back: that happens when a build is retried after
 * its log ended, but before its result was stored.
 *
 * What was written survives the end of this process, but not of the machine: nothing is synced. A chunk belongs to the
 * writer from `write` on. After a failed write the log stays as it is, and every call of the writer throws the same
 * ConveyorError `unavailable`; `end` still ends the readers.
 */
export function fileLogStore({ dir }: FileLogStoreOptions): LogStore {
  /** Tells readers in this process, by build id, that a log has changed. */
  const changes = new EventEmitter().setMaxListeners(0)
  const reads = new SharedPieces()

  return logStore({
    limits: LIMITS,

    async open(buildId) {
      const paths = pathsOf(dir, buildId)
      const fail = failure(`log of build ${buildId} cannot be written`, dir)
      const handle = await openForAppending(dir, paths).catch(fail)
      const changed = () => changes.emit(buildId)
      return {
        append: (bytes) => handle.appendFile(bytes).catch(fail).finally(changed),
        close: () => handle.close().catch(fail),
        end: () => markEnded(paths).catch(fail).finally(changed),
      }
    },

    read: (buildId, range, stops) => readLog(dir, buildId, range, stops, changes, reads),
    close: async () => {},
  })
}

interface Paths {
  /** The path while the log grows. */
  part: string
  /** The path once it has ended. */
  ended: string
}

function pathsOf(dir: string, buildId: string): Paths {
  const ended = join(dir, `${buildId}.log`)
  return { ended, part: `${ended}.part` }
}

async function openForAppending(dir: string, { part, ended }: Paths): Promise<FileHandle> {
  const { O_APPEND, O_WRONLY, O_CREAT, O_EXCL } = constants
  await mkdir(dir, { recursive: true })
  for (;;) {
    // Step by step, so that a log which another process is just ending is never started over next to it.
    const existing = await ifPossible(open(part, O_WRONLY | O_APPEND))
    if (existing) return existing
    if ((await ifPossible(rename(ended, part).then(() => true))) === null) {
      const created = await ifPossible(open(part, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, 0o640), 'EEXIST')
      if (created) return created
    }
  }
}

async function markEnded({ part, ended }: Paths): Promise<void> {
  // Another worker may have ended it already: one that lost its lease, or the one that took over.
  if ((await ifPossible(rename(part, ended).then(() => true))) === null) await stat(ended)
}

/** Null if there is no such file (or, with EEXIST, if there is one). */
async function ifPossible<T>(work: Promise<T>, code: 'ENOENT' | 'EEXIST' = 'ENOENT'): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === code) return null
    throw error
  }
}

/** @returns what throws the reason for it as a ConveyorError */
function failure(what: string, dir: string): (error: unknown) => never {
  return (error) => {
    const { message } = error as Error
    throw new ConveyorError('unavailable', `${what}: ${message}`, {
      hint: `Check the directory ${dir} and the free space on its disk`,
      cause: error,
    })
  }
}

async function* readLog(
  dir: string,
  buildId: string,
  { offset, follow }: ReadRange,
  stops: AbortSignal[],
  changes: EventEmitter,
  reads: SharedPieces,
): AsyncGenerator<Uint8Array> {
  const { part, ended } = pathsOf(dir, buildId)
  const news = new News(changes, buildId, stops)
  let handle: FileHandle | null = null
  try {
    let position = offset
    while (!isStopped(stops)) {
      news.forget()
      // Checks for the end before the size: an ended log does not grow.
      const hasEnded = (await ifPossible(stat(ended))) !== null
      handle ??= (await ifPossible(open(part))) ?? (await ifPossible(open(ended)))
      if (hasEnded && !handle) continue // renamed back in between
      const { size, nlink } = handle ? await handle.stat() : { size: 0, nlink: 1 }
      while (handle && position < size && !isStopped(stops)) {
        // Pieces start at the same offsets for all readers.
        const length = Math.min(PIECE - (position % PIECE), size - position)
        const piece = await readShared(reads, buildId, handle, position, length)
        if (piece.length === 0) break
        position += piece.length
        yield piece
      }
      // Without a name, the file was deleted, and will not grow.
      if (hasEnded || nlink === 0 || !follow) return
      await news.wait()
    }
  } catch (error) {
    failure(`log of build ${buildId} cannot be read`, dir)(error)
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

/** Wakes one reader: at once on a change in this process or an abort, by polling for other processes' changes. */
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
