/** The beginning of a body, at most so many bytes, as text; the rest is not read. */
export async function firstBytes(body: AsyncIterable<Uint8Array>, most: number): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    pieces.push(piece)
    size += piece.length
    if (size >= most) break
  }
  return Buffer.concat(pieces).subarray(0, most).toString('utf8')
}

/** A whole body; null if it has more than so many bytes, or a piece is not allowed, and then the rest is not read. */
export async function wholeBody(
  body: AsyncIterable<Uint8Array>,
  most: number,
  allow: (piece: Uint8Array) => boolean = () => true,
): Promise<Buffer | null> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    size += piece.length
    if (size > most || !allow(piece)) return null
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}
