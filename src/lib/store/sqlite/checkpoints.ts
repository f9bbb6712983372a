import type { DatabaseSync } from 'node:sqlite'

/** How long nothing must have been written before the log is emptied, in milliseconds. */
const QUIET_MS = 1000
/** Pages of 4 KiB in the log before that is done without a quiet moment: 64 MiB. */
const MOST_PAGES = 16_384

/**
 * Empties SQLite's write-ahead log when nothing is written. By itself SQLite does so within every thousandth
 * page's commit, and syncs two files meanwhile: on a disk that a build writes to, whoever waits for that commit
 * waits for half a second.
 */
export class Checkpoints {
  readonly #database: DatabaseSync
  #timer: NodeJS.Timeout | undefined

  constructor(database: DatabaseSync) {
    this.#database = database
    database.exec(`pragma wal_autocheckpoint = ${MOST_PAGES}`)
  }

  /** To be told of every write. */
  readonly wrote = (): void => {
    this.#timer ??= setTimeout(this.#checkpoint, QUIET_MS).unref()
    this.#timer.refresh()
  }

  /** Closing the database empties the log, too. */
  stop(): void {
    clearTimeout(this.#timer)
  }

  readonly #checkpoint = (): void => {
    try {
      if (this.#database.isOpen) this.#database.exec('pragma wal_checkpoint(passive)')
    } catch {
      // The log keeps everything until another time; what is wrong with the disk, the next write says.
    }
  }
}
