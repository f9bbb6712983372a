import { ConveyorError } from '../core/errors.ts'

/** Frame types; https://docs.docker.com/reference/api/engine/ under ContainerAttach, "Stream format". */
const STDERR = 2
const SYSTEM_ERROR = 3
const HEADER = 8
/** Characters of an engine's error message that are kept. */
const MAX_ERROR = 1000

/**
 * A container's output without the engine's framing: stdout and stderr in the order in which the engine recorded
 * them. Reads only as fast as the pieces are consumed.
 * @throws ConveyorError `unavailable` with the engine's message if it cannot read the rest of the log
 */
export async function* demultiplex(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let head = Buffer.alloc(0)
  let remaining = 0
  let engineError: string | null = null
  for await (const bytes of stream) {
    let chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    while (chunk.length > 0) {
      if (remaining === 0) {
        const missing = HEADER - head.length
        head = Buffer.concat([head, chunk.subarray(0, missing)])
        chunk = chunk.subarray(missing)
        if (head.length < HEADER) break
        remaining = head.readUInt32BE(4)
        const kind = head[0] ?? 0
        if (kind > SYSTEM_ERROR)
          throw new ConveyorError('unavailable', 'the Docker engine sent a malformed log stream')
        engineError = kind > STDERR ? '' : null
        head = Buffer.alloc(0)
      }
      const piece = chunk.subarray(0, remaining)
      chunk = chunk.subarray(remaining)
      remaining -= piece.length
      if (engineError === null) {
        if (piece.length > 0) yield piece
        continue
      }
      if (engineError.length < MAX_ERROR) engineError += piece.toString('utf8', 0, MAX_ERROR)
      if (remaining === 0) {
        throw new ConveyorError(
          'unavailable',
          `the Docker engine could not read the rest of the log: ${engineError}`,
        )
      }
    }
  }
}
