import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError, toConveyorError } from '../errors.ts'
import {
  BATCH_BYTES,
  CHUNK,
  cutChunk,
  EVENT_OVERHEAD,
  encodeEvent,
  type Mark,
} from './cloudwatch-log-events.ts'
import type { OutgoingEvent } from './cloudwatch-log-streams.ts'
import type { LogWriter } from './log-store.ts'

export interface LogSink {
  buildId: string
  /** When the last event of the stream was, in milliseconds since 1970; 0 for none. */
  last: number
  put(events: OutgoingEvent[]): Promise<void>
  done(): void
  /** Aborted when nothing should be tried again. */
  closing: AbortSignal
}

/** Bytes that may wait for the service before a writer has to wait too. */
const HIGH_WATER = 2 * 1024 * 1024
/** What is written within this time goes in one request, unless that is full before. */
const FLUSH_MS = 1_000
/** For how long the service may be away, or throttle, before the writer fails. */
const PATIENCE_MS = 60_000
const LONGEST_RETRY_MS = 5_000

/**
 * Collects what is written into batches of events: the first at once, so that a quiet build's line is seen at once,
 * then one small batch a second. Batches go one after the other, and each event is at least a millisecond after the
 * one before it, as the service orders the events of a stream by their time.
 * @throws ConveyorError when the first event, which marks the opening, can not be stored
 */
export async function cloudwatchLogWriter(sink: LogSink): Promise<LogWriter> {
  const name = randomBytes(4).toString('hex')
  let numbered = 0
  let { last } = sink
  let waiting: Buffer[] = []
  let waitingBytes = 0
  let lastFlush = Number.NEGATIVE_INFINITY
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

  function event(number: number, kind: Mark['kind'], bytes: Buffer): OutgoingEvent {
    last = Math.max(Date.now(), last + 1)
    return { timestamp: last, message: encodeEvent({ writer: name, number, kind }, bytes) }
  }

  /** Sends events until they are stored. The numbers count once that is known. */
  async function send(events: OutgoingEvent[]): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS
    for (let wait = 200; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
      try {
        await sink.put(events)
        numbered += events.length
        return
      } catch (thrown) {
        const failure = toConveyorError(thrown, `log of build ${sink.buildId} cannot be written`)
        if (!failure.retryable || sink.closing.aborted || performance.now() > deadline) throw failure
        await sleep(wait * (0.5 + Math.random()), undefined, { signal: sink.closing }).catch(() => {})
      }
    }
  }

  async function pump(): Promise<void> {
    while (waitingBytes > 0 && !error) {
      await moreOrLate()
      try {
        await send(takeBatch())
      } catch (thrown) {
        error = thrown as ConveyorError
      }
      lastFlush = performance.now()
      room.resolve()
      room = Promise.withResolvers()
    }
    pumping = null
  }

  async function moreOrLate(): Promise<void> {
    const wait = lastFlush + FLUSH_MS - performance.now()
    if (wait <= 0 || waitingBytes >= BATCH_BYTES || flushing > 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait)
      hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    hurry = () => {}
  }

  /** As many events as fit into a request. */
  function takeBatch(): OutgoingEvent[] {
    let bytes = Buffer.concat(waiting)
    const events: OutgoingEvent[] = []
    for (let size = 0; bytes.length > 0; ) {
      // Of what is not all there yet, only whole events.
      if (events.length > 0 && bytes.length < CHUNK && waitingBytes > BATCH_BYTES) break
      const cut = cutChunk(bytes)
      const before = last
      const next = event(numbered + events.length, 'text', bytes.subarray(0, cut))
      size += Buffer.byteLength(next.message) + EVENT_OVERHEAD
      if (size > BATCH_BYTES) {
        last = before
        break
      }
      events.push(next)
      bytes = bytes.subarray(cut)
    }
    waiting = bytes.length > 0 ? [bytes] : []
    waitingBytes = bytes.length
    return events
  }

  async function write(chunk: Uint8Array | string): Promise<void> {
    if (closed) throw new ConveyorError('invalid', `log of build ${sink.buildId} is closed already`)
    if (error) throw error
    const bytes = Buffer.from(chunk as Uint8Array)
    if (bytes.length === 0) return
    waiting.push(bytes)
    waitingBytes += bytes.length
    if (waitingBytes >= BATCH_BYTES) hurry()
    pumping ??= pump()
    while (waitingBytes > HIGH_WATER && !error) await room.promise
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
    closed ??= storeAll().then(() => sink.done())
    return closed
  }

  async function markEnd(): Promise<void> {
    await settle()
    // Also after a failure, for the readers' sake: they have a right to come to the end.
    await send([event(numbered, 'end', Buffer.alloc(0))]).catch((thrown) => {
      error ??= thrown as ConveyorError
    })
  }

  await send([event(0, 'begin', Buffer.alloc(0))])
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
