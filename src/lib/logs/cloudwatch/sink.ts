import { randomBytes } from 'node:crypto'
import { type PieceStore, patiently, patientWriter, type WriterLimits } from '../buffered-writer.ts'
import type { LogWriter } from '../log-store.ts'
import { CHUNK, cutChunk, encodeEvent, type Mark } from './events.ts'
import type { OutgoingEvent } from './streams.ts'

export interface EventSink extends Omit<PieceStore, 'append' | 'end'> {
  /** When the last event of the stream was, in milliseconds since 1970; 0 for none. */
  last: number
  put(events: OutgoingEvent[]): Promise<void>
}

/** One request a second, unless more comes. */
const LIMITS: WriterLimits = {
  // One request takes 1 MiB: also these, if every byte has to be escaped.
  pieceBytes: 4 * CHUNK,
  waitingBytes: 2 * 1024 * 1024,
  gatherMs: { first: 1_000, longest: 1_000 },
  wholeLines: true,
}

/**
 * Turns the pieces of a log into events, each at least a millisecond after the one before it, as the service orders
 * the events of a stream by their time. What is sent again has the same numbers, so that it counts once.
 * @throws ConveyorError when the first event, which marks the opening, cannot be stored
 */
export async function cloudwatchLogWriter(sink: EventSink): Promise<LogWriter> {
  const writer = randomBytes(4).toString('hex')
  /** Events that are known to be stored. */
  let numbered = 0
  let { last } = sink

  async function send(kind: Mark['kind'], chunks: Buffer[]): Promise<void> {
    const events = chunks.map((bytes, index) => {
      last = Math.max(Date.now(), last + 1)
      return { timestamp: last, message: encodeEvent({ writer, number: numbered + index, kind }, bytes) }
    })
    await sink.put(events)
    numbered += events.length
  }
  const mark = (kind: 'begin' | 'end') => send(kind, [Buffer.alloc(0)])

  await patiently(() => mark('begin'), sink.closing)
  return patientWriter(
    { ...sink, append: (bytes) => send('text', chunksOf(bytes)), end: () => mark('end') },
    LIMITS,
  )
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
