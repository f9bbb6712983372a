import { EventEmitter } from 'node:events'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError } from '../core/errors.ts'
import { isStopped, logStore, type Range } from './backend.ts'
import type { BufferLimits } from './buffered-writer.ts'
import type { LogStore } from './log-store.ts'
import { SharedPieces } from './shared-pieces.ts'

export interface FileLogStoreOptions {
  /** Folder of the logs; made when the first log is opened. */
  dir: string
}

/** The largest piece that a reader gets. */
const PIECE = 64 * 1024
/** Many small writes that come while the disk is busy become one. A failed one may be there in part: no retry. */
const LIMITS: BufferLimits = {
  batchBytes: 1024 * 1024,
  bufferBytes: 2 * 1024 * 1024,
  lingerMs: { first: 0, longest: 0 },
  wholeLines: false,
  retryMs: 0,
}
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
  /** Where a log is while it grows. */
  part: string
  /** Where it is when it ended. */
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

/** @returns what throws the reason for it as a ConveyorError */
function failure(what: string, dir: string): (error: unknown) => never {
  return (error) => {
    const { message } = error as Error
    throw new ConveyorError('unavailable', `${what}: ${message}`, {
      hint: `Check the folder ${dir}, and the free space on its disk`,
      cause: error,
    })
  }
}

async function* readLog(
  dir: string,
  buildId: string,
  { offset, follow }: Range,
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
      // The end is looked for before the size: what is there at the end was written before it.
      const hasEnded = (await ifThere(stat(ended))) !== null
      handle ??= (await ifThere(open(part))) ?? (await ifThere(open(ended)))
      if (hasEnded && !handle) continue // renamed back between the two looks
      const { size, nlink } = handle ? await handle.stat() : { size: 0, nlink: 1 }
      while (handle && position < size && !isStopped(stops)) {
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
