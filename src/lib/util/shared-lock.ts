/**
 * The builds of one process: side by side, but for those that run alone. While one of these runs, or waits for
 * the others to end, nobody should take on more.
 */
export class SharedLock {
  #running = 0
  /** How many run alone, or wait for that. */
  #alone = 0
  #busyAlone = false
  #full = new AbortController()
  #changed = Promise.withResolvers<void>()

  /** Aborted once a build runs alone or waits for that; another signal when that is over. */
  get full(): AbortSignal {
    return this.#full.signal
  }

  /** Resolves when no build runs alone or waits for that, or when the signal is aborted. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.#alone > 0 && !signal.aborted) await this.#change(signal)
  }

  /**
   * Runs `work` beside others that do not run alone, or as the only one.
   * @throws the reason of the signal, when that is aborted before the work begins
   */
  async run<T>(alone: boolean, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (alone) this.#expect(1)
    try {
      // Nothing is awaited between the last look and what it decides.
      while (!signal.aborted && (alone ? this.#running > 0 : this.#busyAlone)) await this.#change(signal)
      signal.throwIfAborted()
      return await this.#work(alone, work)
    } finally {
      if (alone) this.#expect(-1)
      this.#tell()
    }
  }

  async #work<T>(alone: boolean, work: () => Promise<T>): Promise<T> {
    this.#running += 1
    this.#busyAlone = alone
    try {
      return await work()
    } finally {
      this.#running -= 1
      this.#busyAlone = false
    }
  }

  #expect(change: 1 | -1): void {
    this.#alone += change
    if (this.#alone === 0) this.#full = new AbortController()
    else this.#full.abort()
  }

  #tell(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Resolves when a build has ended, or the signal is aborted. */
  async #change(signal: AbortSignal): Promise<void> {
    const stopped = Promise.withResolvers<void>()
    const stop = () => stopped.resolve()
    signal.addEventListener('abort', stop, { once: true })
    await Promise.race([this.#changed.promise, stopped.promise])
    signal.removeEventListener('abort', stop)
  }
}
