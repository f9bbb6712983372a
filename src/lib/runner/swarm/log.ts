import { setTimeout as delay } from 'node:timers/promises'
import type { LogSink } from '../../core/build-log/sink.ts'
import { demultiplex } from '../../docker/container-logs.ts'
import type { SwarmApi } from './api.ts'

/** Pause before an interrupted log is followed again. */
const RETRY_MS = 1000
/** How long to wait for a node to send more of a finished log. */
const SILENCE_MS = 60_000

/**
 * Copies a task's output to the build's log. A task has one container, and its engine keeps the output in order: every
 * read returns the same bytes, so a read can resume where the last one stopped.
 */
export class TaskLog {
  readonly #api: SwarmApi
  readonly #taskId: string
  readonly #log: LogSink
  /** Bytes copied so far. */
  #copied = 0
  #writeFailure: { error: unknown } | null = null

  constructor(api: SwarmApi, taskId: string, log: LogSink) {
    this.#api = api
    this.#taskId = taskId
    this.#log = log
  }

  /** Copies output until the signal is aborted. Rejects only if the build's log cannot be written. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // If the stream breaks off because the node or the manager is gone, the next read resumes where it stopped.
      await this.#copy(true, signal).catch(() => {})
      if (this.#writeFailure) throw this.#writeFailure.error
      await delay(RETRY_MS, undefined, { signal }).catch(() => {})
    }
  }

  /**
   * Copies the rest after the task has ended; a followed log never ends by itself.
   * @returns why the end could not be read; null if it was
   */
  async rest(): Promise<string | null> {
    // If the node does not respond, the request never ends.
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(), SILENCE_MS)
    try {
      await this.#copy(false, silence.signal, timer)
      return null
    } catch (error) {
      if (this.#writeFailure) throw this.#writeFailure.error
      return silence.signal.aborted ? 'its node does not respond' : (error as Error).message
    } finally {
      clearTimeout(timer)
    }
  }

  /** @param timer restarted with every piece */
  async #copy(follow: boolean, signal: AbortSignal, timer?: NodeJS.Timeout): Promise<void> {
    const stream = await this.#api.logs(this.#taskId, follow, signal)
    let position = 0
    try {
      for await (const bytes of demultiplex(stream)) {
        timer?.refresh()
        const skip = Math.max(0, this.#copied - position)
        position += bytes.length
        if (skip >= bytes.length) continue
        await this.#write(bytes.subarray(skip))
        this.#copied = position
        if (follow && signal.aborted) return
      }
    } finally {
      stream.destroy()
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#log.write(bytes)
    } catch (error) {
      this.#writeFailure = { error }
      throw error
    }
  }
}
