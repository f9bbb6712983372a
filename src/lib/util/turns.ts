import { setImmediate } from 'node:timers/promises'

/** How long the event loop may be kept, in milliseconds. */
const TURN_MS = 10

/** Long work on the event loop, which gets to other things in between. */
export class Turns {
  readonly #limitMs: number
  #began = performance.now()
  #spent = 0

  /** @param limitMs what all turns may take together, without what others do in between */
  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** Whether it is time to `take` another turn. */
  get due(): boolean {
    return performance.now() - this.#began > TURN_MS
  }

  /** Whether all that it may take is spent. */
  get over(): boolean {
    return this.#spent > this.#limitMs
  }

  /** Lets others go first, if it is time. @returns over */
  async take(): Promise<boolean> {
    if (this.due) {
      this.#spent += performance.now() - this.#began
      await setImmediate()
      this.#began = performance.now()
    }
    return this.over
  }
}
