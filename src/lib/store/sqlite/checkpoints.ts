import type { DatabaseSync } from 'node:sqlite'

/** How long writes must have paused before a checkpoint, in milliseconds. */
const QUIET_MS = 1000
/** Pages of 4 KiB in the log that force a checkpoint without a pause: 64 MiB. */
const MOST_PAGES = 16_384

/**
 * Checkpoints SQLite's write-ahead log while nothing is written. By default SQLite does so in the commit that reaches
 * 1,000 pages, and syncs two files meanwhile: on a disk that a build writes to, that commit takes half a second.
 */
export class Checkpoints {
  readonly #database: DatabaseSync
  #timer: NodeJS.Timeout | undefined

  constructor(database: DatabaseSync) {
    this.#database = database
    database.exec(`pragma wal_autocheckpoint = ${MOST_PAGES}`)
  }

  /** To be called after every write. */
  readonly wrote = (): void => {
    this.#timer ??= setTimeout(this.#checkpoint, QUIET_MS).unref()
    this.#timer.refresh()
  }

  /** Closing the database checkpoints the log, too. */
  stop(): void {
    clearTimeout(this.#timer)
  }

  readonly #checkpoint = (): void => {
    try {
      if (this.#database.isOpen) this.#database.exec('pragma wal_checkpoint(passive)')
    } catch {
      // The log keeps everything until the next time; a disk error surfaces in the next write.
    }
  }
}
