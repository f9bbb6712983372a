import { setImmediate } from 'node:timers/promises'

let last: Promise<unknown> = Promise.resolve()

/**
 * Runs synchronous work that may take a tenth of a second, such as parsing a hostile Dockerfile, in a turn of the event
 * loop of its own: however many such pieces are due, requests are answered in between.
 * The work must not wait for another piece: that one is due after it.
 * @throws what the work throws
 */
export function inOwnTurn<T>(work: () => T): Promise<T> {
  const result = last.then(async () => {
    await setImmediate()
    return work()
  })
  last = result.catch(() => {}) // reported by `result`
  return result
}
