/** Runs work while nothing urgent runs: one task at a time, and only the newest of each name. */
export class Background {
  readonly #waiting = new Map<string, (signal: AbortSignal) => Promise<void>>()
  readonly #end = new AbortController()
  #urgent = 0
  #running: Promise<void> | undefined

  /** Runs urgent work, before background tasks. */
  async before<T>(work: () => Promise<T>): Promise<T> {
    this.#urgent++
    try {
      return await work()
    } finally {
      this.#urgent--
      this.#next()
    }
  }

  /** Adds a task, in place of a waiting one of that name. It must not throw. */
  add(name: string, work: (signal: AbortSignal) => Promise<void>): void {
    this.#waiting.set(name, work)
    this.#next()
  }

  /** Drops waiting tasks, and gives the running one some time to finish. */
  async close(graceMs: number): Promise<void> {
    this.#waiting.clear()
    const timer = setTimeout(() => this.#end.abort(), graceMs)
    await this.#running
    clearTimeout(timer)
  }

  #next(): void {
    const [first] = this.#waiting
    if (!first || this.#urgent > 0 || this.#running || this.#end.signal.aborted) return
    const [name, work] = first
    this.#waiting.delete(name)
    this.#running = work(this.#end.signal).finally(() => {
      this.#running = undefined
      this.#next()
    })
  }
}
