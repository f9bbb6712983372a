import { setImmediate } from 'node:timers/promises'
import type { Kysely, Transaction } from 'kysely'

/** The work of one writer inside a transaction. It must have no other effects, as it may run twice. */
export type Work<DB, T> = (trx: Transaction<DB>) => Promise<T>

interface Member<DB> {
  work: Work<DB, unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/** Limits how long one group blocks the event loop; a group of 32 takes a few milliseconds. */
const GROUP_SIZE = 32
/**
 * Turns of the event loop between two groups. libuv accepts one new connection in each turn (since 1.45), so with a single
 * turn the last of many clients would wait for as many commits. An idle turn takes microseconds.
 */
const TURNS = 16

/**
 * Lets concurrent writers share one transaction, and so one disk sync. Each still succeeds or fails alone: if a group
 * fails, its members are retried, each in its own transaction.
 * @param isWorthRetrying whether that can help after this error; if not, all members fail with it
 */
export function groupCommit<DB>(db: Kysely<DB>, isWorthRetrying: (error: unknown) => boolean = () => true) {
  const waiting: Member<DB>[] = []
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      // Lets other requests be answered, or join the group.
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
      if (group.length > 1 && isWorthRetrying(error)) for (const member of group) await commit([member])
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
