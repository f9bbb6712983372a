import { type Layout, type Listing, layoutOf, NOTHING, type Segment } from './layout.ts'

/** How soon S3 is asked again after it had something new. */
const POLL_MS = 500
/** How soon at most, while there is nothing new. */
const QUIET_POLL_MS = 1_500

/**
 * A log that readers of this process are at: they share what is known of it, and one poll. A poll is one list of what
 * is behind the known. What is written in this process is known without asking.
 */
export class FollowedLog {
  readonly #list: (from: number) => Promise<Listing>
  /** What to do with news, for each reader that waits for some. */
  readonly #waiting = new Set<(news: Layout | Error) => void>()
  #layout = NOTHING
  #anew = false
  #asking: Promise<unknown> = Promise.resolve()
  /** The next question, which somebody wants already. */
  #next: Promise<Layout> | null = null
  #timer: NodeJS.Timeout | undefined
  #rest = POLL_MS

  /** @param list what there is of the log from a byte on */
  constructor(list: (from: number) => Promise<Listing>) {
    this.#list = list
  }

  /** What is there now. Whoever asks at the same time gets the same answer. */
  look(): Promise<Layout> {
    this.#next ??= this.#asking.then(() => {
      this.#next = null
      const answer = this.#ask()
      this.#asking = answer.catch(() => {})
      return answer
    })
    return this.#next
  }

  /** The same, and nothing that was known before counts. */
  lookAnew(): Promise<Layout> {
    this.#anew = true
    return this.look()
  }

  /**
   * Waits until the log is not as `known` any more; answers `known` when one of the signals is aborted.
   * @throws what asking throws
   */
  change(known: Layout, stops: AbortSignal[]): Promise<Layout> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(hear)
        if (this.#waiting.size === 0) this.#cancelPoll()
        for (const signal of stops) signal.removeEventListener('abort', stop)
      }
      const hear = (news: Layout | Error) => {
        if ('size' in news && same(news, known)) return
        leave()
        if ('size' in news) resolve(news)
        else reject(news)
      }
      const stop = () => {
        leave()
        resolve(known)
      }
      if (stops.some((signal) => signal.aborted)) return resolve(known)
      if (!same(this.#layout, known)) return resolve(this.#layout)
      for (const signal of stops) signal.addEventListener('abort', stop)
      this.#waiting.add(hear)
      this.#planPoll()
    })
  }

  /** Tells of a segment that was stored here. */
  tell(segment: Segment): void {
    if (segment.offset !== this.#layout.size) return
    const { text } = this.#layout
    this.#know(layoutOf({ text, segments: [segment], openings: [] }, this.#layout))
  }

  /** Tells that the log was ended here. */
  tellEnd(): void {
    this.#poll()
  }

  async #ask(): Promise<Layout> {
    const anew = this.#anew
    this.#anew = false
    const before = this.#layout
    const listing = await this.#list(anew ? 0 : before.size)
    // Not `before`: there may have been a segment to tell of meanwhile.
    const layout = layoutOf(listing, anew ? NOTHING : this.#layout)
    this.#rest = same(before, layout) ? Math.min(this.#rest * 1.5, QUIET_POLL_MS) : POLL_MS
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

function same(a: Layout, b: Layout): boolean {
  return a.size === b.size && a.ended === b.ended
}
