import { setTimeout as delay } from 'node:timers/promises'
import { demultiplex } from '../../docker/container-logs.ts'
import type { LogWriter } from '../../logs/log-store.ts'
import type { SwarmApi } from './api.ts'

/** Before a log that broke off is followed again. */
const AGAIN_MS = 1000
/** A node that sends nothing for so long, of a log that has ended, is not waited for. */
const SILENT_MS = 60_000

/**
 * Copies what a task writes into the build's log. A task has one container, whose engine keeps its output in
 * order, so every reading of it is the same bytes, and one can go on where another stopped.
 */
export class TaskLog {
  readonly #api: SwarmApi
  readonly #taskId: string
  readonly #log: LogWriter
  /** Bytes that are copied. */
  #copied = 0
  #unwritten: { error: unknown } | null = null

  constructor(api: SwarmApi, taskId: string, log: LogWriter) {
    this.#api = api
    this.#taskId = taskId
    this.#log = log
  }

  /** Copies what comes, until the signal is aborted. Rejects only when the build's log cannot be written. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // What breaks off here, as the node or the manager goes away, is read again from where it was.
      await this.#copy(true, signal).catch(() => {})
      if (this.#unwritten) throw this.#unwritten.error
      await delay(AGAIN_MS, undefined, { signal }).catch(() => {})
    }
  }

  /**
   * Copies the rest, once the task has ended: a log that is followed has no end of its own.
   * @returns why it could not be read to its end; null when it was
   */
  async rest(): Promise<string | null> {
    // A node that does not answer leaves the question open for ever.
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(), SILENT_MS)
    try {
      await this.#copy(false, silence.signal, timer)
      return null
    } catch (error) {
      if (this.#unwritten) throw this.#unwritten.error
      return silence.signal.aborted ? 'its node does not answer' : (error as Error).message
    } finally {
      clearTimeout(timer)
    }
  }

  /** @param timer started anew with every piece */
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
      this.#unwritten = { error }
      throw error
    }
  }
}
