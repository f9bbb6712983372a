import { setTimeout as sleep } from 'node:timers/promises'

/** What readers have to know of a log before they ask for its bytes. */
export interface LogState {
  size: number
  ended: boolean
}

const NOTHING: LogState = { size: 0, ended: false }

/** How often one question is asked about all the logs that somebody here waits for. */
const POLL_MS = 200

/**
 * The logs that readers of this process wait for. However many readers and logs there are, the database is
 * asked one question at a time; what is written in this process is known without asking. It is asked rather than
 * LISTENed to: Postgres commits what NOTIFYs one after another, and logs are written by all workers all the time.
 */
export class FollowedLogs {
  readonly #ask: (buildIds: string[]) => Promise<Map<string, LogState>>
  /** By build id, what to do with news. */
  readonly #readers = new Map<string, Set<(news: LogState | Error) => void>>()
  #polling = false

  /** @param ask the states of these logs, without those that do not exist. */
  constructor(ask: (buildIds: string[]) => Promise<Map<string, LogState>>) {
    this.#ask = ask
  }

  /** What is there now. */
  async look(buildId: string): Promise<LogState> {
    return (await this.#ask([buildId])).get(buildId) ?? NOTHING
  }

  /**
   * Waits until a log is not as `known` any more; answers `known` when one of the signals is aborted.
   * @throws what asking throws
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

  /** Tells of what was written here. */
  tell(buildId: string, state: LogState): void {
    for (const hear of [...(this.#readers.get(buildId) ?? [])]) hear(state)
  }

  async #poll(): Promise<void> {
    this.#polling = true
    while (this.#readers.size > 0) {
      const asked = [...this.#readers.keys()]
      try {
        const states = await this.#ask(asked)
        for (const buildId of asked) this.tell(buildId, states.get(buildId) ?? NOTHING)
      } catch (error) {
        for (const buildId of asked) {
          for (const hear of [...(this.#readers.get(buildId) ?? [])]) hear(error as Error)
        }
      }
      await sleep(POLL_MS)
    }
    this.#polling = false
  }
}
