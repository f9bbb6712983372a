import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { exponential, retry } from '../util/retry.ts'
import type { LogWriter } from './log-store.ts'

/** Where the bytes of one open log are stored. Errors name the log. */
export interface OpenLog {
  /**
   * Appends bytes to the log.
   * @param isRetry whether an earlier attempt failed, which may have stored them all the same
   */
  append(bytes: Uint8Array, isRetry: boolean): Promise<void>
  /** Marks the log as ended. Idempotent. */
  end(): Promise<void>
  /** Releases what the sink holds. Called once, after the last append and before `end`. */
  close?(): Promise<void>
}

export interface BufferLimits {
  /** The most bytes that are appended at once. */
  batchBytes: number
  /** How many bytes may be buffered or on their way before writes have to wait: what a build may log during an outage. */
  bufferBytes: number
  /**
   * How long a batch is held back for more bytes, in milliseconds since the one before it. It doubles from `first` to
   * `longest` while the build keeps writing.
   */
  lingerMs: { first: number; longest: number }
  /** Whether batches end with a line where they can, as batches of another writer may come in between. */
  wholeLines: boolean
  /** For how long appends and the end mark are retried, in milliseconds from the first failure; 0: not at all. */
  retryMs: number
}

/**
 * Buffers what is written, and appends it in batches, one after another: the first at once, so that a quiet build's
 * lines show up immediately, then fewer and larger ones. A short outage of the storage delays a log, but does not fail it.
 */
export class BufferedWriter implements LogWriter {
  readonly #buildId: string
  readonly #sink: OpenLog
  readonly #limits: BufferLimits
  readonly #closing: AbortSignal
  readonly #buffer: Uint8Array[] = []
  /** In the buffer or on their way. */
  #bytes = 0
  /** When the last batch was taken from the buffer, and how long the next one is held back. */
  #tookAt = Number.NEGATIVE_INFINITY
  #lingerMs: number
  #error: ConveyorError | null = null
  #closed: Promise<void> | null = null
  #ended: Promise<void> | null = null
  /** Calls that wait until the buffer is empty: nothing is held back then. */
  #flushing = 0
  /** Settles, and never rejects, when the buffer is empty. */
  #pumping: Promise<void> | null = null
  #room = Promise.withResolvers<void>()
  /** Ends the time for which a batch is held back. */
  #hurry = () => {}

  /** @param closing aborted when failures are not to be retried any more */
  constructor(buildId: string, sink: OpenLog, limits: BufferLimits, closing: AbortSignal) {
    this.#buildId = buildId
    this.#sink = sink
    this.#limits = limits
    this.#closing = closing
    this.#lingerMs = limits.lingerMs.first
  }

  write(chunk: Uint8Array | string): Promise<void> {
    const result = this.#write(chunk)
    // Callers that do not await writes get the error from flush, close or end.
    result.catch(() => {})
    return result
  }

  async flush(): Promise<void> {
    await this.#drain()
    if (this.#error) throw this.#error
  }

  async close(): Promise<void> {
    await this.#close()
    if (this.#error) throw this.#error
  }

  async end(): Promise<void> {
    this.#ended ??= this.#end()
    await this.#ended
    if (this.#error) throw this.#error
  }

  async #write(chunk: Uint8Array | string): Promise<void> {
    if (this.#closed) {
      throw new ConveyorError('invalid', `log of build ${this.#buildId} is already closed`)
    }
    if (this.#error) throw this.#error
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (bytes.length === 0) return
    this.#buffer.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= this.#limits.batchBytes) this.#hurry()
    this.#pumping ??= this.#pump()
    while (this.#bytes > this.#limits.bufferBytes && !this.#error) await this.#room.promise
    if (this.#error) throw this.#error
  }

  async #pump(): Promise<void> {
    while (this.#bytes > 0 && !this.#error) {
      await this.#linger()
      this.#tookAt = performance.now()
      const batch = this.#take()
      await this.#retry((isRetry) => this.#sink.append(batch, isRetry))
      this.#bytes -= batch.length
      this.#room.resolve()
      this.#room = Promise.withResolvers()
    }
    this.#pumping = null
  }

  /** Resolves when the next batch is full, flushed, or was held back for long enough. */
  async #linger(): Promise<void> {
    const { batchBytes, lingerMs } = this.#limits
    const sinceLast = performance.now() - this.#tookAt
    const wait = this.#lingerMs - sinceLast
    // After a silence, the next line is as urgent as the first.
    this.#lingerMs =
      sinceLast > lingerMs.longest ? lingerMs.first : Math.min(this.#lingerMs * 2, lingerMs.longest)
    if (wait <= 0 || this.#bytes >= batchBytes || this.#flushing > 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait)
      this.#hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#hurry = () => {}
  }

  /** Removes the next batch from the buffer. */
  #take(): Uint8Array {
    const { batchBytes, wholeLines } = this.#limits
    let bytes = 0
    let count = 0
    while (bytes < batchBytes && count < this.#buffer.length) bytes += this.#buffer[count++]?.length ?? 0
    const taken = this.#buffer.splice(0, count)
    const all = taken.length === 1 && taken[0] ? taken[0] : Buffer.concat(taken)
    if (all.length <= batchBytes) return all
    const afterLine = wholeLines ? all.lastIndexOf(0x0a, batchBytes - 1) + 1 : 0
    const cut = afterLine || batchBytes
    this.#buffer.unshift(all.subarray(cut))
    return all.subarray(0, cut)
  }

  /** Never rejects. */
  async #drain(): Promise<void> {
    this.#flushing++
    this.#hurry()
    await this.#pumping
    this.#flushing--
  }

  #close(): Promise<void> {
    this.#closed ??= this.#drain().then(() => this.#try(async () => this.#sink.close?.()))
    return this.#closed
  }

  async #end(): Promise<void> {
    await this.#close()
    // Even after a failure: readers that follow the log must not wait forever.
    await this.#retry(() => this.#sink.end())
  }

  /** Never rejects: keeps the first error. */
  #retry(work: (isRetry: boolean) => Promise<void>): Promise<void> {
    return this.#try(() => retryFor(this.#limits.retryMs, work, this.#closing))
  }

  async #try(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (thrown) {
      this.#error ??= toConveyorError(thrown, `log of build ${this.#buildId} cannot be written`)
    }
  }
}

const LONGEST_RETRY_MS = 2_000

/**
 * Retries work that failed with a retryable error, for some time from its first failure.
 * @param closing aborted when failures are not to be retried any more; a wait ends then with one last attempt
 * @throws the last error
 */
export function retryFor(
  ms: number,
  work: (isRetry: boolean) => Promise<void>,
  closing: AbortSignal,
): Promise<void> {
  let deadline: number | undefined
  return retry(() => work(deadline !== undefined), {
    delays: exponential(100, LONGEST_RETRY_MS),
    jitter: 0.5,
    isRetryable: (thrown) => {
      deadline ??= performance.now() + ms
      const { retryable } = toConveyorError(thrown, 'storing it failed')
      return retryable && !closing.aborted && performance.now() < deadline
    },
    sleep: (wait) => sleep(wait, undefined, { signal: closing }).catch(() => {}), // closing: the last attempt
  })
}
