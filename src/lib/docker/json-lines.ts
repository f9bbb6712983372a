import { ConveyorError } from '../core/errors.ts'

/** In bytes. The longest that an engine sends are the messages of a build's steps, with a piece of their output. */
const LONGEST_LINE = 32 * 1024 * 1024

/**
 * The engine's streamed answers: one JSON object a line. Ends with the stream, and throws what the stream
 * fails with (node's readline would wait forever on a stream that is destroyed).
 * @throws ConveyorError `unavailable` for a line that is none, as the last one of a stream that was cut off
 */
export async function* jsonLines<T extends object>(
  stream: AsyncIterable<Buffer>,
): AsyncGenerator<Partial<T>> {
  let pieces: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      const last = chunk.subarray(from, end)
      const line = text(pieces.length === 0 ? last : Buffer.concat([...pieces, last]))
      from = end + 1
      pieces = []
      length = 0
      if (line !== '') yield parsed(line)
    }
    if (from < chunk.length) pieces.push(chunk.subarray(from))
    length += chunk.length - from
    if (length > LONGEST_LINE) throw unreadable('a line that is too long')
  }
  const rest = text(Buffer.concat(pieces))
  if (rest !== '') yield parsed(rest)
}

const text = (line: Buffer) => line.toString().trim()

function parsed<T extends object>(line: string): Partial<T> {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (error) {
    throw unreadable('a line that is no JSON', error)
  }
  if (typeof value !== 'object' || value === null) throw unreadable('a line that is no object')
  return value as Partial<T>
}

/** What the engine sends is not what it is known to send. */
export function unreadable(what: string, cause?: unknown): ConveyorError {
  return new ConveyorError('unavailable', `the answer of the Docker engine cannot be read: it has ${what}`, {
    hint: 'Look at the log of the engine, and at what is between it and Conveyor',
    ...(cause === undefined ? {} : { cause }),
  })
}
