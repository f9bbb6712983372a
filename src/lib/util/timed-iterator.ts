/** Reads an async iterator with a limit on each wait, without losing the value that was waited for. */
export class TimedIterator<T> {
  readonly #iterator: AsyncIterator<T>
  #pulling = false
  #settled: (() => IteratorResult<T>) | null = null
  #wake: () => void = () => {}

  constructor(source: AsyncIterable<T>) {
    this.#iterator = source[Symbol.asyncIterator]()
  }

  /** The next value; null when none came within `ms`, in which case the next call goes on waiting for it. */
  async next(ms: number): Promise<IteratorResult<T> | null> {
    if (!this.#pulling) this.#pull()
    // Not Promise.race: a long-lived promise would collect one reaction per wait for as long as it pends.
    if (this.#settled === null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const settled = this.#settled
    if (settled === null) return null
    this.#pulling = false
    this.#settled = null
    return settled()
  }

  /** Lets the source clean up. A value still waited for must have been given up by the source first. */
  async close(): Promise<void> {
    await this.#iterator.return?.()
  }

  #pull(): void {
    this.#pulling = true
    const settle = (outcome: () => IteratorResult<T>) => {
      this.#settled = outcome
      this.#wake()
    }
    this.#iterator.next().then(
      (result) => settle(() => result),
      (error: unknown) =>
        settle(() => {
          throw error
        }),
    )
  }
}
