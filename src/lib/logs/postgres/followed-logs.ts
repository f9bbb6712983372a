import { setTimeout as sleep } from 'node:timers/promises'
import { type FollowedState, type Listener, nextState } from '../next-state.ts'

const NOTHING: FollowedState = { size: 0, ended: false }

/** How often the state of all followed logs is queried. */
const POLL_MS = 200

/**
 * The logs that readers of this process follow. However many there are, one query at a time asks for their states;
 * what this process writes is known without one. Polled rather than LISTENed for: Postgres serializes commits that
 * NOTIFY, and all workers write logs all the time.
 */
export class FollowedLogs {
  readonly #query: (buildIds: string[]) => Promise<Map<string, FollowedState>>
  /** Callbacks for news, by build id. */
  readonly #readers = new Map<string, Set<Listener<FollowedState>>>()
  #polling = false

  /** @param query returns the states of the logs that exist */
  constructor(query: (buildIds: string[]) => Promise<Map<string, FollowedState>>) {
    this.#query = query
  }

  /** The current state of a log. */
  async look(buildId: string): Promise<FollowedState> {
    return (await this.#query([buildId])).get(buildId) ?? NOTHING
  }

  /**
   * Waits until the state of a log differs from `known`; returns `known` once one of the signals is aborted.
   * @throws what the query throws
   */
  change(buildId: string, known: FollowedState, stops: AbortSignal[]): Promise<FollowedState> {
    const readers = this.#readers.get(buildId) ?? new Set()
    return nextState(known, stops, {
      join: (listener) => {
        this.#readers.set(buildId, readers.add(listener))
        if (!this.#polling) void this.#poll()
      },
      leave: (listener) => {
        readers.delete(listener)
        if (readers.size === 0) this.#readers.delete(buildId)
      },
    })
  }

  /** Reports a write of this process. */
  wrote(buildId: string, state: FollowedState): void {
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
