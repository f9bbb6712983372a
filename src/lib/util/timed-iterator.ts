/** Reads an async iterator with a timeout for each wait, without losing values that come later. */
export class TimedIterator<T> {
  readonly #iterator: AsyncIterator<T>
  #pulling = false
  #settled: (() => IteratorResult<T>) | null = null
  #wake: () => void = () => {}

  constructor(source: AsyncIterable<T>) {
    this.#iterator = source[Symbol.asyncIterator]()
  }

  /** The next value; null if none came within `ms`, and then the next call continues to wait for it. */
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

  /** Lets the source clean up. If a value is still pending, the source must have been aborted first. */
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
