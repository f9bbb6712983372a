/** Work that is repeated every so often, never twice at the same time. */
export class Periodic {
  readonly #work: () => Promise<void>
  readonly #onError: (error: unknown, isNews: boolean) => void
  readonly #timer: NodeJS.Timeout
  #running: Promise<void> | undefined
  #isFailing = false

  /**
   * Begins after `ms` milliseconds; see `run`.
   * @param onError called when the work fails; `isNews`: the time before, it did not, or there was none
   */
  constructor(ms: number, work: () => Promise<void>, onError: (error: unknown, isNews: boolean) => void) {
    this.#work = work
    this.#onError = onError
    this.#timer = setInterval(() => void this.run(), ms)
  }

  /** Does the work now, too; joins it if it is being done. Never rejects. */
  run(): Promise<void> {
    this.#running ??= this.#once().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Resolves once the work is done that is being done; it is not repeated. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#running
  }

  async #once(): Promise<void> {
    try {
      await this.#work()
      this.#isFailing = false
    } catch (error) {
      this.#onError(error, !this.#isFailing)
      this.#isFailing = true
    }
  }
}
