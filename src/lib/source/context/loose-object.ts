/** Most bytes of a stored block of deflate (RFC 1951). */
const BLOCK = 65_535
const BLOCK_HEAD = 5
/** zlib (RFC 1950): two bytes before, four after. */
const FRAME = 6
const ZLIB = Buffer.of(0x78, 0x01)
const ADLER = 65_521
/** So many bytes can be added before the sums have to be reduced. */
const ADLER_RUN = 5552

/** Bytes of a blob in git's loose format, given its own size. */
export function looseSize(size: number): number {
  return storedSize(headerOf(size).length + size)
}

/** Bytes that `storedObject` makes of as many. */
export function storedSize(length: number): number {
  return FRAME + length + BLOCK_HEAD * Math.max(Math.ceil(length / BLOCK), 1)
}

/** Bytes as zlib that is stored, not compressed, as compressors differ and the bytes must not. */
export function storedObject(content: Buffer): Buffer[] {
  const pieces: Buffer[] = [ZLIB]
  for (let at = 0; at === 0 || at < content.length; at += BLOCK) {
    const block = content.subarray(at, at + BLOCK)
    pieces.push(blockHead(block.length, at + block.length === content.length), block)
  }
  pieces.push(checksum(adler(1, 0, content)))
  return pieces
}

/**
 * A blob in the format of `.git/objects/xx/...`, stored as by storedObject.
 * @param content of `size` bytes
 */
export async function* looseBlob(
  size: number,
  content: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let left = headerOf(size).length + size
  let inBlock = 0
  let [a, b] = [1, 0]
  yield ZLIB
  for await (const piece of concat(headerOf(size), content)) {
    ;[a, b] = adler(a, b, piece)
    for (let at = 0; at < piece.length; ) {
      if (inBlock === 0) {
        inBlock = Math.min(left, BLOCK)
        left -= inBlock
        yield blockHead(inBlock, left === 0)
      }
      const part = piece.subarray(at, at + inBlock)
      yield part
      at += part.length
      inBlock -= part.length
    }
  }
  yield checksum([a, b])
}

function blockHead(length: number, isLast: boolean): Buffer {
  const head = Buffer.alloc(BLOCK_HEAD)
  head.writeUInt8(isLast ? 1 : 0, 0)
  head.writeUInt16LE(length, 1)
  head.writeUInt16LE(~length & 0xffff, 3)
  return head
}

function checksum([a, b]: [number, number]): Buffer {
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(b * 65_536 + a)
  return sum
}

async function* concat(first: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first
  yield* rest
}

function headerOf(size: number): Uint8Array {
  return Buffer.from(`blob ${size}\0`)
}

function adler(first: number, second: number, bytes: Uint8Array): [number, number] {
  let [a, b] = [first, second]
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(at + ADLER_RUN, bytes.length)
    for (; at < end; at++) {
      a += bytes[at] as number
      b += a
    }
    a %= ADLER
    b %= ADLER
  }
  return [a, b]
}
