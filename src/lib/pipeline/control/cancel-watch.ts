import { toConveyorError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { BuildStore } from '../../store/build-store.ts'

/** How often a process with running builds asks for cancels, in milliseconds. */
const EVERY_MS = 1000

/**
 * Tells the running attempts of a process that somebody wants their builds to end: one query a second for all of them,
 * and none while nothing runs.
 */
export class CancelWatch {
  readonly #store: Pick<BuildStore, 'cancelRequests'>
  readonly #log: Log
  readonly #everyMs: number
  /** By build id. */
  readonly #watched = new Map<string, (by: string) => void>()
  #timer: NodeJS.Timeout | undefined
  #failing = false

  constructor(store: Pick<BuildStore, 'cancelRequests'>, log: Log, { everyMs = EVERY_MS } = {}) {
    this.#store = store
    this.#log = log
    this.#everyMs = everyMs
  }

  /** Calls `onCancel` once if the build is to be cancelled. @returns what ends this */
  watch(id: string, onCancel: (by: string) => void): () => void {
    this.#watched.set(id, onCancel)
    this.#schedule()
    return () => {
      // A later attempt at the same build, in this process, may be watched by now.
      if (this.#watched.get(id) !== onCancel) return
      this.#watched.delete(id)
      if (this.#watched.size > 0) return
      clearTimeout(this.#timer)
      this.#timer = undefined
    }
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#watched.size === 0) return
    this.#timer = setTimeout(() => void this.#look(), this.#everyMs)
  }

  async #look(): Promise<void> {
    try {
      const asked = await this.#store.cancelRequests([...this.#watched.keys()])
      this.#failing = false
      for (const { id, by } of asked) {
        const onCancel = this.#watched.get(id)
        this.#watched.delete(id)
        onCancel?.(by)
      }
    } catch (error) {
      // Logged once: the store's other users log more, and this runs every second.
      if (!this.#failing) this.#log(`looking for cancels: ${toConveyorError(error, 'failed').advice}`)
      this.#failing = true
    }
    this.#timer = undefined
    this.#schedule()
  }
}
