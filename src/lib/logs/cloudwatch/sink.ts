import { randomBytes } from 'node:crypto'
import { type BufferLimits, type OpenLog, retryFor } from '../buffered-writer.ts'
import { CHUNK, cutChunk, encodeEvent, type Mark } from './events.ts'
import type { OutgoingEvent } from './streams.ts'

/** The stream that events are put into. */
export interface OpenStream {
  /** Time of the stream's last event, in milliseconds since 1970; 0 if there is none. */
  last: number
  put(events: OutgoingEvent[]): Promise<void>
  /** Aborted when failures are not to be retried any more. */
  closing: AbortSignal
}

/** One request a second, unless more comes. */
export const LIMITS: BufferLimits = {
  // One request takes 1 MiB: also these, if every byte has to be escaped.
  batchBytes: 4 * CHUNK,
  bufferBytes: 2 * 1024 * 1024,
  lingerMs: { first: 1_000, longest: 1_000 },
  wholeLines: true,
  retryMs: 60_000,
}

/**
 * Turns the bytes of a log into events, each at least a millisecond after the one before it, as the service sorts
 * the events of a stream by their time. Events that are sent again have the same numbers, so that they count once.
 * @throws ConveyorError when the first event, which marks the opening, cannot be stored
 */
export async function eventSink(stream: OpenStream): Promise<OpenLog> {
  const writer = randomBytes(4).toString('hex')
  /** Events that are known to be stored. */
  let numbered = 0
  let { last } = stream

  async function send(kind: Mark['kind'], chunks: Buffer[]): Promise<void> {
    const events = chunks.map((bytes, index) => {
      last = Math.max(Date.now(), last + 1)
      return { timestamp: last, message: encodeEvent({ writer, number: numbered + index, kind }, bytes) }
    })
    await stream.put(events)
    numbered += events.length
  }
  const mark = (kind: 'begin' | 'end') => send(kind, [Buffer.alloc(0)])

  await retryFor(LIMITS.retryMs, () => mark('begin'), stream.closing)
  return { append: (bytes) => send('text', chunksOf(bytes)), end: () => mark('end') }
}

function chunksOf(bytes: Uint8Array): Buffer[] {
  const chunks: Buffer[] = []
  let rest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  while (rest.length > 0) {
    const cut = cutChunk(rest)
    chunks.push(rest.subarray(0, cut))
    rest = rest.subarray(cut)
  }
  return chunks
}
