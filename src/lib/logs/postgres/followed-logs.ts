import { setTimeout as sleep } from 'node:timers/promises'

/** What readers need to know about a log before they fetch its bytes. */
export interface LogState {
  size: number
  ended: boolean
}

const NOTHING: LogState = { size: 0, ended: false }

/** How often the state of all followed logs is queried. */
const POLL_MS = 200

/**
 * The logs that readers of this process follow. However many there are, one query at a time asks for their states;
 * what this process writes is known without one. Polled rather than LISTENed for: Postgres serializes commits that
 * NOTIFY, and all workers write logs all the time.
 */
export class FollowedLogs {
  readonly #query: (buildIds: string[]) => Promise<Map<string, LogState>>
  /** Callbacks for news, by build id. */
  readonly #readers = new Map<string, Set<(news: LogState | Error) => void>>()
  #polling = false

  /** @param query returns the states of the logs that exist */
  constructor(query: (buildIds: string[]) => Promise<Map<string, LogState>>) {
    this.#query = query
  }

  /** The current state of a log. */
  async look(buildId: string): Promise<LogState> {
    return (await this.#query([buildId])).get(buildId) ?? NOTHING
  }

  /**
   * Waits until the state of a log differs from `known`; returns `known` once one of the signals is aborted.
   * @throws what the query throws
   */
  change(buildId: string, known: LogState, stops: AbortSignal[]): Promise<LogState> {
    return new Promise((resolve, reject) => {
      const readers = this.#readers.get(buildId) ?? new Set()
      const leave = () => {
        readers.delete(hear)
        if (readers.size === 0) this.#readers.delete(buildId)
        for (const signal of stops) signal.removeEventListener('abort', stop)
      }
      const hear = (news: LogState | Error) => {
        if ('size' in news && news.size === known.size && news.ended === known.ended) return
        leave()
        if ('size' in news) resolve(news)
        else reject(news)
      }
      const stop = () => {
        leave()
        resolve(known)
      }
      if (stops.some((signal) => signal.aborted)) return resolve(known)
      for (const signal of stops) signal.addEventListener('abort', stop)
      this.#readers.set(buildId, readers.add(hear))
      if (!this.#polling) void this.#poll()
    })
  }

  /** Reports a write of this process. */
  wrote(buildId: string, state: LogState): void {
    for (const hear of [...(this.#readers.get(buildId) ?? [])]) hear(state)
  }

  async #poll(): Promise<void> {
    this.#polling = true
    while (this.#readers.size > 0) {
      const buildIds = [...this.#readers.keys()]
      try {
        const states = await this.#query(buildIds)
        for (const buildId of buildIds) this.wrote(buildId, states.get(buildId) ?? NOTHING)
      } catch (error) {
        for (const buildId of buildIds) {
          for (const hear of [...(this.#readers.get(buildId) ?? [])]) hear(error as Error)
        }
      }
      await sleep(POLL_MS)
    }
    this.#polling = false
  }
}
