/**
 * The engine's streamed answers: one JSON object a line. Ends with the stream, and throws what the stream
 * fails with (node's readline would wait forever on a stream that is destroyed).
 */
export async function* jsonLines<T>(stream: AsyncIterable<Buffer>): AsyncGenerator<T> {
  let pieces: Buffer[] = []
  for await (const chunk of stream) {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      const last = chunk.subarray(from, end)
      const line = text(pieces.length === 0 ? last : Buffer.concat([...pieces, last]))
      from = end + 1
      pieces = []
      if (line !== '') yield JSON.parse(line) as T
    }
    if (from < chunk.length) pieces.push(chunk.subarray(from))
  }
  const rest = text(Buffer.concat(pieces))
  if (rest !== '') yield JSON.parse(rest) as T
}

const text = (line: Buffer) => line.toString().trim()
