import { ConveyorError } from '../core/errors.ts'

/** In bytes. The longest messages of an engine are those of build steps, with a piece of their output. */
const MAX_LINE = 32 * 1024 * 1024

/**
 * Parses the engine's streamed responses: one JSON object per line. Ends with the stream, and throws the stream's
 * error (Node's readline would wait forever on a destroyed stream).
 * @throws ConveyorError `unavailable` for a malformed line, such as the last one of a truncated stream
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
    if (length > MAX_LINE) throw unreadable('a line is too long')
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
    throw unreadable('a line is not JSON', error)
  }
  if (typeof value !== 'object' || value === null) throw unreadable('a line is not a JSON object')
  return value as Partial<T>
}

/** The engine sent something unexpected. @param why a clause */
export function unreadable(why: string, cause?: unknown): ConveyorError {
  return new ConveyorError('unavailable', `malformed response from the Docker engine: ${why}`, {
    hint: "Check the engine's log, and any proxy between it and Conveyor",
    ...(cause === undefined ? {} : { cause }),
  })
}
