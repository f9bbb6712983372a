/**
 * A shared and exclusive lock, for the builds of one process: they run in parallel, except for exclusive ones. While one of
 * these runs or waits for the others to finish, no more should be taken on.
 */
export class SharedLock {
  #running = 0
  /** How many exclusive builds run or wait. */
  #exclusive = 0
  #isExclusive = false
  #full = new AbortController()
  #changed = Promise.withResolvers<void>()

  /** Aborted while an exclusive build runs or waits; replaced by a new signal afterwards. */
  get full(): AbortSignal {
    return this.#full.signal
  }

  /** Resolves when no exclusive build runs or waits, or when the signal is aborted. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.#exclusive > 0 && !signal.aborted) await this.#change(signal)
  }

  /**
   * Runs `work` in parallel with others that are not exclusive, or as the only one.
   * @throws the signal's reason if it is aborted before the work starts
   */
  async run<T>(exclusive: boolean, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (exclusive) this.#expect(1)
    try {
      // Nothing is awaited between this check and taking the lock.
      while (!signal.aborted && (exclusive ? this.#running > 0 : this.#isExclusive))
        await this.#change(signal)
      signal.throwIfAborted()
      return await this.#work(exclusive, work)
    } finally {
      if (exclusive) this.#expect(-1)
      this.#notify()
    }
  }

  async #work<T>(exclusive: boolean, work: () => Promise<T>): Promise<T> {
    this.#running += 1
    this.#isExclusive = exclusive
    try {
      return await work()
    } finally {
      this.#running -= 1
      this.#isExclusive = false
    }
  }

  #expect(change: 1 | -1): void {
    this.#exclusive += change
    if (this.#exclusive === 0) this.#full = new AbortController()
    else this.#full.abort()
  }

  #notify(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Resolves when a build has finished, or the signal is aborted. */
  async #change(signal: AbortSignal): Promise<void> {
    const stopped = Promise.withResolvers<void>()
    const stop = () => stopped.resolve()
    signal.addEventListener('abort', stop, { once: true })
    await Promise.race([this.#changed.promise, stopped.promise])
    signal.removeEventListener('abort', stop)
  }
}
