import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError, toConveyorError } from '../errors.ts'
import type { LogWriter } from './log-store.ts'
import { CHUNK } from './postgres-log-tables.ts'

/** How a writer reaches the database. */
export interface LogSink {
  buildId: string
  /** Appends one chunk. `again`: an earlier try failed, and may have succeeded all the same. */
  append(chunk: Uint8Array, again: boolean): Promise<void>
  /** Idempotent. */
  end(): Promise<void>
  done(): void
  /** Aborted when nothing should be tried again. */
  closing: AbortSignal
}

/** Bytes that may wait for the database before a writer has to wait too. */
const HIGH_WATER = 1024 * 1024
/** What is written within this time becomes one chunk, unless that is full before. */
const FLUSH_MS = 250
/** For how long the database may be away before the writer fails. */
const PATIENCE_MS = 60_000
const LONGEST_RETRY_MS = 2_000

/**
 * Collects what is written into chunks: the first at once, so that a quiet build's line is seen at once, and
 * then at most four small ones a second. A restart of the database delays a log, and does not end it.
 */
export function postgresLogWriter(sink: LogSink): LogWriter {
  const waiting: Uint8Array[] = []
  let waitingBytes = 0
  let lastFlush = Number.NEGATIVE_INFINITY
  let error: ConveyorError | null = null
  let closed: Promise<void> | null = null
  let ended: Promise<void> | null = null
  /** Settles, and never rejects, when nothing is waiting any more. */
  let pumping: Promise<void> | null = null
  let room = Promise.withResolvers<void>()
  /** Ends the wait for more. */
  let hurry = () => {}

  async function pump(): Promise<void> {
    while (waitingBytes > 0 && !error) {
      await moreOrLate()
      const chunk = take()
      try {
        await patiently((again) => sink.append(chunk, again))
      } catch (thrown) {
        error = failure(thrown)
      }
      lastFlush = performance.now()
      room.resolve()
      room = Promise.withResolvers()
    }
    pumping = null
  }

  async function moreOrLate(): Promise<void> {
    const wait = lastFlush + FLUSH_MS - performance.now()
    if (wait <= 0 || waitingBytes >= CHUNK || closed) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait)
      hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    hurry = () => {}
  }

  function take(): Uint8Array {
    let bytes = 0
    let count = 0
    while (bytes < CHUNK && count < waiting.length) bytes += waiting[count++]?.length ?? 0
    const taken = waiting.splice(0, count)
    const all = taken.length === 1 && taken[0] ? taken[0] : Buffer.concat(taken)
    if (all.length > CHUNK) waiting.unshift(all.subarray(CHUNK))
    const chunk = all.subarray(0, CHUNK)
    waitingBytes -= chunk.length
    return chunk
  }

  /** Tries again while the database is away. */
  async function patiently(work: (again: boolean) => Promise<void>): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS
    for (let wait = 100; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
      try {
        return await work(wait > 100)
      } catch (thrown) {
        const { retryable } = toConveyorError(thrown, 'the database failed')
        if (!retryable || sink.closing.aborted || performance.now() > deadline) throw thrown
        await sleep(wait * (0.5 + Math.random()), undefined, { signal: sink.closing }).catch(() => {})
      }
    }
  }

  function failure(thrown: unknown): ConveyorError {
    const { kind, message, hint, retryable } = toConveyorError(thrown, 'the database failed')
    return new ConveyorError(kind, `log of build ${sink.buildId} cannot be written: ${message}`, {
      ...(hint && { hint }),
      retryable,
      cause: thrown,
    })
  }

  async function write(chunk: Uint8Array | string): Promise<void> {
    if (closed) throw new ConveyorError('invalid', `log of build ${sink.buildId} is closed already`)
    if (error) throw error
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (bytes.length === 0) return
    waiting.push(bytes)
    waitingBytes += bytes.length
    if (waitingBytes >= CHUNK) hurry()
    pumping ??= pump()
    while (waitingBytes > HIGH_WATER && !error) await room.promise
    if (error) throw error
  }

  function settle(): Promise<void> {
    closed ??= (async () => {
      hurry()
      await pumping
      sink.done()
    })()
    return closed
  }

  async function markEnd(): Promise<void> {
    await settle()
    await patiently(() => sink.end()).catch((thrown) => {
      error ??= failure(thrown)
    })
  }

  return {
    write(chunk) {
      const result = write(chunk)
      // Whoever does not wait for a write learns of its failure from close or end.
      result.catch(() => {})
      return result
    },
    async close() {
      await settle()
      if (error) throw error
    },
    async end() {
      ended ??= markEnd()
      await ended
      if (error) throw error
    },
  }
}
