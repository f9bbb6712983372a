/** Limits how many tasks run at once. The others wait in line, first in, first out. */
export class Semaphore {
  #free: number
  readonly #waiting = new Set<() => void>()

  /** @param limit how many tasks may run at once */
  constructor(limit: number) {
    this.#free = limit
  }

  /**
   * Resolves when a task may run; each `acquire` needs a `release`.
   * @throws the signal's reason if that is aborted before
   */
  async acquire(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    if (this.#free > 0) {
      this.#free -= 1
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const onAbort = () => {
      // A turn that came before the abort stays.
      if (this.#waiting.delete(resolve)) reject(signal?.reason)
    }
    this.#waiting.add(resolve)
    signal?.addEventListener('abort', onAbort)
    await promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  release(): void {
    const [next] = this.#waiting
    if (!next) this.#free += 1
    else {
      this.#waiting.delete(next)
      next()
    }
  }

  /** Runs a task when its turn comes. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    await this.acquire()
    try {
      return await task()
    } finally {
      this.release()
    }
  }
}
