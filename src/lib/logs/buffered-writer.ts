import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { exponential, retry } from '../util/retry.ts'
import type { LogWriter } from './log-store.ts'

/** Where the pieces of one log are stored, over a network. What its errors say names the log. */
export interface PieceStore {
  buildId: string
  /** Stores one piece behind what is there. `again`: an earlier try failed, and may have succeeded all the same. */
  append(bytes: Uint8Array, again: boolean): Promise<void>
  /** Idempotent. */
  end(): Promise<void>
  done(): void
  /** Aborted when nothing should be tried again. */
  closing: AbortSignal
}

export interface WriterLimits {
  /** The largest piece, in bytes. */
  pieceBytes: number
  /** Bytes that may wait before whoever writes has to wait too: what a build may write while the store is away. */
  waitingBytes: number
  /**
   * How long what is written waits for more to come with it, in milliseconds, after the piece before it: at
   * first, and at most while the build goes on writing; it doubles from one piece to the next.
   */
  gatherMs: { first: number; longest: number }
  /** Whether pieces end with whole lines where they can, as another writer's may come between. */
  wholeLines: boolean
}

/** For how long the store may be away before the writer fails. */
const PATIENCE_MS = 60_000
const LONGEST_RETRY_MS = 2_000

/**
 * Collects what is written into pieces, stored one after the other: the first at once, so that a quiet build's
 * line is seen at once, and then fewer and larger ones. A store that is away for a while delays a log, and
 * does not end it.
 */
export function patientWriter(store: PieceStore, limits: WriterLimits): LogWriter {
  const { pieceBytes, gatherMs } = limits
  const waiting: Uint8Array[] = []
  let waitingBytes = 0
  /** When the last piece began to be stored, and how long what comes after it waits. */
  let storedAt = Number.NEGATIVE_INFINITY
  let rest = gatherMs.first
  let error: ConveyorError | null = null
  let closed: Promise<void> | null = null
  let ended: Promise<void> | null = null
  /** How many wait for everything to be stored: nothing waits for more then. */
  let flushing = 0
  /** Settles, and never rejects, when nothing is waiting any more. */
  let pumping: Promise<void> | null = null
  let room = Promise.withResolvers<void>()
  /** Ends the wait for more. */
  let hurry = () => {}

  async function pump(): Promise<void> {
    while (waitingBytes > 0 && !error) {
      await moreOrLate()
      storedAt = performance.now()
      const piece = take()
      try {
        await patiently((again) => store.append(piece, again), store.closing)
      } catch (thrown) {
        error = failure(thrown)
      }
      waitingBytes -= piece.length
      room.resolve()
      room = Promise.withResolvers()
    }
    pumping = null
  }

  async function moreOrLate(): Promise<void> {
    const since = performance.now() - storedAt
    const wait = rest - since
    // After a silence the next line is worth as much as the first.
    rest = since > gatherMs.longest ? gatherMs.first : Math.min(rest * 2, gatherMs.longest)
    if (wait <= 0 || waitingBytes >= pieceBytes || flushing > 0) return
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
    while (bytes < pieceBytes && count < waiting.length) bytes += waiting[count++]?.length ?? 0
    const taken = waiting.splice(0, count)
    const all = taken.length === 1 && taken[0] ? taken[0] : Buffer.concat(taken)
    if (all.length <= pieceBytes) return all
    const line = limits.wholeLines ? all.lastIndexOf(0x0a, pieceBytes - 1) + 1 : 0
    const cut = line || pieceBytes
    waiting.unshift(all.subarray(cut))
    return all.subarray(0, cut)
  }

  const failure = (thrown: unknown) =>
    toConveyorError(thrown, `log of build ${store.buildId} cannot be written`)

  async function write(chunk: Uint8Array | string): Promise<void> {
    if (closed) throw new ConveyorError('invalid', `log of build ${store.buildId} is closed already`)
    if (error) throw error
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (bytes.length === 0) return
    waiting.push(bytes)
    waitingBytes += bytes.length
    if (waitingBytes >= pieceBytes) hurry()
    pumping ??= pump()
    while (waitingBytes > limits.waitingBytes && !error) await room.promise
    if (error) throw error
  }

  /** Never rejects. */
  async function storeAll(): Promise<void> {
    flushing++
    hurry()
    await pumping
    flushing--
  }

  function settle(): Promise<void> {
    closed ??= storeAll().then(() => store.done())
    return closed
  }

  async function markEnd(): Promise<void> {
    await settle()
    // Also after a failure, for the readers' sake: they have a right to come to the end.
    await patiently(() => store.end(), store.closing).catch((thrown) => {
      error ??= failure(thrown)
    })
  }

  return {
    write(chunk) {
      const result = write(chunk)
      // Whoever does not wait for a write learns of its failure from flush, close or end.
      result.catch(() => {})
      return result
    },
    async flush() {
      await storeAll()
      if (error) throw error
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

/**
 * Does what may fail while a store is away, again and again until it succeeds.
 * @param closing aborted when nothing should be tried again
 * @throws what the last try threw
 */
export async function patiently(
  work: (again: boolean) => Promise<void>,
  closing: AbortSignal,
): Promise<void> {
  let deadline = Number.POSITIVE_INFINITY
  let again = false
  const attempt = () => work(again)
  return retry(attempt, {
    delays: exponential(100, LONGEST_RETRY_MS),
    jitter: 0.5,
    isRetryable: (thrown) => {
      again = true
      deadline = Math.min(deadline, performance.now() + PATIENCE_MS)
      const { retryable } = toConveyorError(thrown, 'storing it failed')
      return retryable && !closing.aborted && performance.now() < deadline
    },
    // Closing ends the wait, and then there is one last attempt.
    sleep: (ms) => sleep(ms, undefined, { signal: closing }).catch(() => {}),
  })
}
