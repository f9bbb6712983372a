import { untilAborted } from '../abort.ts'

/** A mutex for each key: tasks of one key run one after another, in order; those of other keys in parallel. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>()

  /**
   * Runs `task` when all earlier tasks of the key have settled.
   * @throws the signal's reason if it is aborted while waiting; the task is then never run
   */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const turn = Promise.withResolvers<void>()
    // The next task waits for both: when this one leaves the line, it must not overtake the one before.
    const tail = Promise.all([before, turn.promise]).then(() => {})
    this.#tails.set(key, tail)
    try {
      await untilAborted(before, signal)
      return await task()
    } finally {
      turn.resolve()
      void tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key)
      })
    }
  }
}
