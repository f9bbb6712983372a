/**
 * The engine's streamed answers: one JSON object a line. Ends with the stream, and throws what the stream
 * fails with (node's readline would wait forever on a stream that is destroyed).
 */
export async function* jsonLines<T>(stream: AsyncIterable<Buffer>): AsyncGenerator<T> {
  let pieces: Buffer[] = []
  for await (const chunk of stream) {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      pieces.push(chunk.subarray(from, end))
      from = end + 1
      const line = Buffer.concat(pieces).toString().trim()
      pieces = []
      if (line !== '') yield JSON.parse(line) as T
    }
    pieces.push(chunk.subarray(from))
  }
  const rest = Buffer.concat(pieces).toString().trim()
  if (rest !== '') yield JSON.parse(rest) as T
}
