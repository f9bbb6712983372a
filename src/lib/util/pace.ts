import { setImmediate } from 'node:timers/promises'

/** How long work may block the event loop at a time, in milliseconds. */
const TURN_MS = 10
/** Items between two looks at the clock, which cost as much as an item of the cheapest kind. */
const ITEMS_PER_LOOK = 16

/**
 * Yields to the event loop during long work: `if (pace.isDue) await pace.rest()` between steps of a millisecond or two at
 * most.
 */
export class Pace {
  readonly #signal: AbortSignal | undefined
  #since = performance.now()

  /** @param signal cancels the work: `rest` throws its reason */
  constructor(signal?: AbortSignal) {
    this.#signal = signal
  }

  get isDue(): boolean {
    return performance.now() - this.#since > TURN_MS
  }

  /** Resolves after a turn of the event loop. @throws the signal's reason */
  async rest(): Promise<void> {
    await setImmediate()
    this.#signal?.throwIfAborted()
    this.#since = performance.now()
  }

  /** Calls `each` for every item, in order, and yields in between. For items that take a tenth of a millisecond at most. */
  async forEach<T>(items: Iterable<T>, each: (item: T) => void): Promise<void> {
    let done = 0
    for (const item of items) {
      each(item)
      if (++done % ITEMS_PER_LOOK === 0 && this.isDue) await this.rest()
    }
  }

  /** The items that are to be kept, in order; yields in between. */
  async filter<T>(items: Iterable<T>, keep: (item: T) => boolean): Promise<T[]> {
    const kept: T[] = []
    await this.forEach(items, (item) => {
      if (keep(item)) kept.push(item)
    })
    return kept
  }

  /** Sorts items, stably, and yields in between. */
  async sorted<T>(items: readonly T[], compare: (a: T, b: T) => number): Promise<T[]> {
    let runs: T[][] = []
    for (let at = 0; at < items.length; at += 2048) {
      runs.push(items.slice(at, at + 2048).sort(compare))
      if (this.isDue) await this.rest()
    }
    while (runs.length > 1) {
      const merged: T[][] = []
      for (let i = 0; i < runs.length; i += 2) {
        merged.push(await this.#merged(runs[i] ?? [], runs[i + 1] ?? [], compare))
      }
      runs = merged
    }
    return runs[0] ?? []
  }

  async #merged<T>(one: T[], two: T[], compare: (a: T, b: T) => number): Promise<T[]> {
    const all: T[] = []
    let [i, j] = [0, 0]
    while (i < one.length && j < two.length) {
      const [a, b] = [one[i] as T, two[j] as T]
      if (compare(a, b) <= 0) {
        all.push(a)
        i++
      } else {
        all.push(b)
        j++
      }
      if ((all.length & 1023) === 0 && this.isDue) await this.rest()
    }
    const rest = i < one.length ? one.slice(i) : two.slice(j)
    await this.forEach(rest, (item) => all.push(item))
    return all
  }
}
