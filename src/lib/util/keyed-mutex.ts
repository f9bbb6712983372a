/** Runs the tasks of one key one after the other, in the order they came; other keys run side by side. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>()

  /**
   * Runs `task` when the tasks given before it under the same key have ended, well or badly.
   * A signal that is aborted while waiting rejects at once with its reason; the task is then never run.
   */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const turn = Promise.withResolvers<void>()
    // Whoever comes next waits for both: giving up our turn must not let it overtake the one before us.
    const tail = Promise.all([before, turn.promise]).then(() => {})
    this.#tails.set(key, tail)
    try {
      await abortable(before, signal)
      return await task()
    } finally {
      turn.resolve()
      void tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key)
      })
    }
  }
}

async function abortable(wait: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted()
  if (!signal) return wait
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort)
  try {
    await Promise.race([wait, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
