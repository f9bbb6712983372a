import { isSame, type Listener, nextState } from '../next-state.ts'
import { type Layout, type Listing, layoutOf, NOTHING, type Segment } from './layout.ts'

/** Time until the next poll after one with news. */
const POLL_MS = 500
/** The longest time until the next poll while there is no news. */
const QUIET_POLL_MS = 1_500

/**
 * A log that readers of this process follow: they share its layout, and one poll. A poll is one LIST from the known end
 * on. What this process writes is known without one.
 */
export class FollowedLog {
  readonly #list: (from: number) => Promise<Listing>
  /** Callbacks of waiting readers. */
  readonly #waiting = new Set<Listener<Layout>>()
  #layout = NOTHING
  #reloading = false
  #asking: Promise<unknown> = Promise.resolve()
  /** The next request, which a reader already waits for. */
  #next: Promise<Layout> | null = null
  #timer: NodeJS.Timeout | undefined
  #rest = POLL_MS

  /** @param list lists the log's objects from an offset on */
  constructor(list: (from: number) => Promise<Listing>) {
    this.#list = list
  }

  /** The current layout. Concurrent calls share one request. */
  look(): Promise<Layout> {
    this.#next ??= this.#asking.then(() => {
      this.#next = null
      const answer = this.#ask()
      this.#asking = answer.catch(() => {})
      return answer
    })
    return this.#next
  }

  /** The same, without relying on what is known. */
  reload(): Promise<Layout> {
    this.#reloading = true
    return this.look()
  }

  /**
   * Waits until the log differs from `known`; returns `known` once one of the signals is aborted.
   * @throws what the request throws
   */
  change(known: Layout, stops: AbortSignal[]): Promise<Layout> {
    return nextState(known, stops, {
      join: (listener) => {
        this.#waiting.add(listener)
        if (!isSame(this.#layout, known)) listener(this.#layout)
        else this.#planPoll()
      },
      leave: (listener) => {
        this.#waiting.delete(listener)
        if (this.#waiting.size === 0) this.#cancelPoll()
      },
    })
  }

  /** Reports a segment that this process stored. */
  wrote(segment: Segment): void {
    if (segment.offset !== this.#layout.size) return
    const { text } = this.#layout
    this.#know(layoutOf({ text, segments: [segment], openings: [] }, this.#layout))
  }

  /** Reports that this process ended the log. */
  ended(): void {
    this.#poll()
  }

  async #ask(): Promise<Layout> {
    const reloading = this.#reloading
    this.#reloading = false
    const before = this.#layout
    const listing = await this.#list(reloading ? 0 : before.size)
    // Not `before`: a segment may have been reported in the meantime.
    const layout = layoutOf(listing, reloading ? NOTHING : this.#layout)
    this.#rest = isSame(before, layout) ? Math.min(this.#rest * 1.5, QUIET_POLL_MS) : POLL_MS
    this.#know(layout)
    return layout
  }

  #know(layout: Layout): void {
    this.#layout = layout
    for (const hear of [...this.#waiting]) hear(layout)
  }

  #planPoll(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#poll(), this.#rest)
  }

  #cancelPoll(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #poll(): void {
    this.look()
      .catch((error: Error) => {
        for (const hear of [...this.#waiting]) hear(error)
      })
      .finally(() => {
        this.#cancelPoll()
        if (this.#waiting.size > 0) this.#planPoll()
      })
  }
}
