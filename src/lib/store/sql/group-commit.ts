import { setImmediate } from 'node:timers/promises'
import type { Kysely, Transaction } from 'kysely'

/** What one writer does inside a transaction. It touches nothing else, because it may have to run twice. */
export type Work<DB, T> = (trx: Transaction<DB>) => Promise<T>

interface Member<DB> {
  work: Work<DB, unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/** Limits how long one group keeps the event loop; a group of 32 takes a few milliseconds. */
const GROUP_SIZE = 32
/**
 * Turns of the event loop between two groups. In each turn libuv accepts one new connection (since 1.45), so with a
 * single turn the last of many clients would wait for as many commits. A turn in which nothing happens takes
 * microseconds.
 */
const TURNS = 16

/**
 * Writers that arrive together share one transaction, and so one wait for the disk. Each still succeeds
 * or fails alone: when a group fails, its members run again, each in a transaction of its own.
 * @param again whether that can help after this error; if not, all of them fail with it.
 */
export function groupCommit<DB>(db: Kysely<DB>, again: (error: unknown) => boolean = () => true) {
  const waiting: Member<DB>[] = []
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      // Lets other requests in: to be answered, and to join the group.
      for (let turn = 0; turn < TURNS; turn++) await setImmediate()
      await commit(waiting.splice(0, GROUP_SIZE))
    }
    running = undefined
  }

  async function commit(group: Member<DB>[]): Promise<void> {
    try {
      const results = await db.transaction().execute(async (trx) => {
        const results: unknown[] = []
        for (const { work } of group) results.push(await work(trx))
        return results
      })
      group.forEach(({ resolve }, i) => {
        resolve(results[i])
      })
    } catch (error) {
      if (group.length > 1 && again(error)) for (const member of group) await commit([member])
      else for (const { reject } of group) reject(error)
    }
  }

  return {
    /** Runs `work` in a transaction; durable when it resolves. */
    write<T>(work: Work<DB, T>): Promise<T> {
      return new Promise<T>((resolve, reject) => {
        waiting.push({ work, resolve: resolve as (value: unknown) => void, reject })
        running ??= run()
      })
    },
    /** Resolves when nothing is being written. */
    async idle(): Promise<void> {
      while (running) await running
    },
  }
}
