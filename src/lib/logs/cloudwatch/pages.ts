import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { keepNewest } from '../../util/collections/keep-newest.ts'
import type { Page } from './streams.ts'

/** A page, and when it was requested (`performance.now()`). */
export interface DatedPage extends Page {
  requestedAt: number
}

/** How often the end of a stream is polled, for all readers of this process together. */
const POLL_MS = 1_000
/** The service allows 25 such requests a second for a whole account. */
const REQUESTS_PER_SECOND = 10
const BURST = 10
/** How many pages are cached, 1 MiB of text each. */
const PAGES_KEPT = 6

/**
 * The pages of all streams that this process reads. Readers of one stream use the same tokens, and share responses: at most
 * one request a second for each stream, and ten a second in all.
 */
export class SharedPages {
  readonly #fetch: (buildId: string, token: string | null) => Promise<Page>
  /** By stream and token; oldest first. */
  readonly #recent = new Map<string, { requestedAt: number; page: Promise<DatedPage> }>()
  readonly #changes = new EventEmitter().setMaxListeners(0)
  /** When the next request may be sent. */
  #slot = 0

  constructor(fetch: (buildId: string, token: string | null) => Promise<Page>) {
    this.#fetch = fetch
  }

  /** The page at a token. May be cached, unless it is the end of the stream: the end is always requested again. */
  async at(buildId: string, token: string | null): Promise<DatedPage> {
    const now = performance.now()
    const known = await this.#recent.get(key(buildId, token))?.page
    return known && (known.more || known.requestedAt >= now) ? known : this.#request(buildId, token, now)
  }

  /** A newer page at the same token: after a second, or when this process has written to the stream. */
  async later(
    buildId: string,
    token: string | null,
    page: DatedPage,
    stops: AbortSignal[],
  ): Promise<DatedPage> {
    const requestedAt = this.#recent.get(key(buildId, token))?.requestedAt ?? page.requestedAt
    const wait = Math.max(page.requestedAt, requestedAt) + POLL_MS - performance.now()
    if (requestedAt <= page.requestedAt && wait > 0) await this.#wait(buildId, wait, stops)
    return this.#request(buildId, token, page.requestedAt)
  }

  /** Reports that this process has written to a stream. */
  wrote(buildId: string): void {
    this.#changes.emit(buildId)
  }

  /** @param after the earliest time at which the page may have been requested */
  #request(buildId: string, token: string | null, after: number): Promise<DatedPage> {
    const name = key(buildId, token)
    const known = this.#recent.get(name)
    if (known && known.requestedAt > after) return known.page
    const entry = { requestedAt: performance.now(), page: Promise.resolve() as unknown as Promise<DatedPage> }
    entry.page = this.#nextSlot().then(async () => {
      entry.requestedAt = performance.now()
      return { ...(await this.#fetch(buildId, token)), requestedAt: entry.requestedAt }
    })
    entry.page.catch(() => this.#recent.get(name) === entry && this.#recent.delete(name))
    keepNewest(this.#recent, name, entry, PAGES_KEPT)
    return entry.page
  }

  /** Waits for a slot; first come, first served. */
  async #nextSlot(): Promise<void> {
    const now = performance.now()
    const step = 1000 / REQUESTS_PER_SECOND
    this.#slot = Math.max(this.#slot + step, now - BURST * step)
    if (this.#slot > now) await sleep(this.#slot - now)
  }

  #wait(buildId: string, ms: number, stops: AbortSignal[]): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#changes.off(buildId, done)
        for (const signal of stops) signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#changes.on(buildId, done)
      for (const signal of stops) signal.addEventListener('abort', done)
    })
  }
}

function key(buildId: string, token: string | null): string {
  return `${buildId} ${token ?? ''}`
}
