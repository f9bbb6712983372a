import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError, toConveyorError } from '../errors.ts'
import type { LogWriter } from './log-store.ts'

/** How a writer reaches the bucket. */
export interface LogSink {
  buildId: string
  /** Stores one segment behind what is there. May be called again with the same bytes after it failed. */
  append(bytes: Uint8Array): Promise<void>
  /** Idempotent. */
  end(): Promise<void>
  done(): void
  /** Aborted when nothing should be tried again. */
  closing: AbortSignal
}

/** The largest segment. */
const SEGMENT = 1024 * 1024
/** Bytes that may wait for S3 before a writer has to wait too: what a build may write while S3 is away. */
const HIGH_WATER = 4 * 1024 * 1024
/** What is written within this time becomes one segment, unless that is full before: at first, and later. */
const FLUSH_MS = 250
const LONGEST_FLUSH_MS = 1_500
/** For how long S3 may be away before the writer fails. */
const PATIENCE_MS = 60_000
const LONGEST_RETRY_MS = 2_000

/**
 * Collects what is written into segments, stored one after the other: the first at once, so that a quiet build's line
 * is seen at once, then after 250 ms, 500 ms, 1 s, and every 1.5 s while the build goes on writing.
 */
export function s3LogWriter(sink: LogSink): LogWriter {
  const waiting: Uint8Array[] = []
  let waitingBytes = 0
  /** When the last segment began to be stored, and how long what comes after it waits. */
  let lastFlush = Number.NEGATIVE_INFINITY
  let rest = FLUSH_MS
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
      lastFlush = performance.now()
      const segment = take()
      try {
        await patiently(() => sink.append(segment))
      } catch (thrown) {
        error = failure(thrown)
      }
      waitingBytes -= segment.length
      room.resolve()
      room = Promise.withResolvers()
    }
    pumping = null
  }

  async function moreOrLate(): Promise<void> {
    const since = performance.now() - lastFlush
    const wait = rest - since
    // After a silence the next line is worth as much as the first.
    rest = since > LONGEST_FLUSH_MS ? FLUSH_MS : Math.min(rest * 2, LONGEST_FLUSH_MS)
    if (wait <= 0 || waitingBytes >= SEGMENT || closed) return
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
    while (bytes < SEGMENT && count < waiting.length) bytes += waiting[count++]?.length ?? 0
    const taken = waiting.splice(0, count)
    const all = taken.length === 1 && taken[0] ? taken[0] : Buffer.concat(taken)
    if (all.length <= SEGMENT) return all
    // Whole lines, as another writer's may come between.
    const cut = all.lastIndexOf(0x0a, SEGMENT - 1) + 1 || SEGMENT
    waiting.unshift(all.subarray(cut))
    return all.subarray(0, cut)
  }

  /** Tries again while S3 is away. */
  async function patiently(work: () => Promise<void>): Promise<void> {
    let deadline = Number.POSITIVE_INFINITY
    for (let wait = 100; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
      try {
        return await work()
      } catch (thrown) {
        const { retryable } = toConveyorError(thrown, 'S3 failed')
        deadline = Math.min(deadline, performance.now() + PATIENCE_MS)
        if (!retryable || sink.closing.aborted || performance.now() >= deadline) throw thrown
        await sleep(wait * (0.5 + Math.random()), undefined, { signal: sink.closing }).catch(() => {})
      }
    }
  }

  function failure(thrown: unknown): ConveyorError {
    return toConveyorError(thrown, `log of build ${sink.buildId} cannot be written`)
  }

  async function write(chunk: Uint8Array | string): Promise<void> {
    if (closed) throw new ConveyorError('invalid', `log of build ${sink.buildId} is closed already`)
    if (error) throw error
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (bytes.length === 0) return
    waiting.push(bytes)
    waitingBytes += bytes.length
    if (waitingBytes >= SEGMENT) hurry()
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
    // Also after a failure, for the readers' sake: they have a right to come to the end.
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
