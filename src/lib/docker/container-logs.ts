import { ConveyorError } from '../core/errors.ts'

/** Kinds of frames; https://docs.docker.com/reference/api/engine/ under ContainerAttach, "Stream format". */
const STDERR = 2
const SYSTEM_ERROR = 3
const HEADER = 8
/** As much of a complaint as is kept, in characters. */
const LONGEST_COMPLAINT = 1000

/**
 * What a container wrote, taken out of the frames that the engine wraps it in: stdout and stderr in the
 * order in which the engine has them. Reads on only as the pieces are taken.
 * @throws ConveyorError `unavailable` with what the engine says when it cannot read the log on
 */
export async function* demultiplex(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let head = Buffer.alloc(0)
  let left = 0
  let complaint: string | null = null
  for await (const bytes of stream) {
    let chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    while (chunk.length > 0) {
      if (left === 0) {
        const missing = HEADER - head.length
        head = Buffer.concat([head, chunk.subarray(0, missing)])
        chunk = chunk.subarray(missing)
        if (head.length < HEADER) break
        left = head.readUInt32BE(4)
        const kind = head[0] ?? 0
        if (kind > SYSTEM_ERROR) throw new ConveyorError('unavailable', 'the engine sent a log that is none')
        complaint = kind > STDERR ? '' : null
        head = Buffer.alloc(0)
      }
      const piece = chunk.subarray(0, left)
      chunk = chunk.subarray(left)
      left -= piece.length
      if (complaint === null) {
        if (piece.length > 0) yield piece
        continue
      }
      if (complaint.length < LONGEST_COMPLAINT) complaint += piece.toString('utf8', 0, LONGEST_COMPLAINT)
      if (left === 0) {
        throw new ConveyorError('unavailable', `the engine cannot read the log on: ${complaint}`)
      }
    }
  }
}
