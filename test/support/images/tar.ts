import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'

/** One entry of a tar. The owner is always root and the time 1970, so the same entries give the same bytes. */
export type TarEntry = { path: string; mode?: number; uid?: number } & (
  | { directory: true }
  | { link: string }
  /** The content itself. */
  | { content: string | Uint8Array }
  /** A file of this machine, which is streamed. */
  | { file: string }
)

const BLOCK = 512

/** Entries as a tar stream (ustar: paths and link targets up to 100 bytes). */
export function tar(entries: Iterable<TarEntry>): Readable {
  return Readable.from(blocks(entries), { objectMode: false })
}

async function* blocks(entries: Iterable<TarEntry>): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    if ('directory' in entry) {
      yield header(entry, '5', 0, 0o755)
    } else if ('link' in entry) {
      yield header(entry, '2', 0, 0o777, entry.link)
    } else if ('content' in entry) {
      const content = Buffer.from(entry.content)
      yield header(entry, '0', content.length, 0o644)
      yield content
      yield padding(content.length)
    } else {
      const { size, mode } = await stat(entry.file)
      yield header(entry, '0', size, mode & 0o755)
      yield* createReadStream(entry.file, { highWaterMark: 1 << 20 })
      yield padding(size)
    }
  }
  yield Buffer.alloc(2 * BLOCK)
}

function padding(size: number): Uint8Array {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

function header(entry: TarEntry, type: string, size: number, mode: number, link = ''): Uint8Array {
  if (Buffer.byteLength(entry.path) > 100 || Buffer.byteLength(link) > 100) {
    throw new Error(`${entry.path} is too long for this tar format`)
  }
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  block.write(entry.path, 0)
  block.write(octal(entry.mode ?? mode, 7), 100)
  block.write(octal(entry.uid ?? 0, 7), 108)
  block.write(octal(entry.uid ?? 0, 7), 116)
  block.write(octal(size, 11), 124)
  block.write(octal(0, 11), 136)
  block.write(`        ${type}`, 148) // the checksum counts its own field as blanks
  block.write(link, 157)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)} `, 148)
  return block
}
