/** A file or folder for a container. */
export interface TarFile {
  /** At most 100 bytes; a folder's ends with a slash. */
  path: string
  content?: Uint8Array | string
  /** Default: 0o644, for a folder 0o755. */
  mode?: number
  /** User and group; root by default. */
  owner?: number
}

const BLOCK = 512

/** A tar of small files (ustar, POSIX.1-1988). Deterministic: all files are from 1970. */
export function tarOf(files: TarFile[]): Buffer {
  const blocks = files.flatMap(({ path, content = '', mode, owner = 0 }) => {
    const bytes = Buffer.from(content)
    const folder = path.endsWith('/')
    const end = Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)
    return [header(path, mode ?? (folder ? 0o755 : 0o644), owner, bytes.length), bytes, end]
  })
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)])
}

/** Content of the first file in a tar; null if it has none. */
export function firstFile(tar: Uint8Array): Buffer | null {
  const bytes = Buffer.from(tar.buffer, tar.byteOffset, tar.byteLength)
  for (let at = 0; at + BLOCK <= bytes.length && bytes[at] !== 0; ) {
    const size = Number.parseInt(bytes.toString('latin1', at + 124, at + 135), 8)
    const type = String.fromCharCode(bytes[at + 156] ?? 0)
    at += BLOCK
    if (type === '0' || type === '\0') return bytes.subarray(at, at + size)
    at += Math.ceil(size / BLOCK) * BLOCK
  }
  return null
}

function header(path: string, mode: number, owner: number, size: number): Buffer {
  if (Buffer.byteLength(path) > 100) throw new Error(`${path} is too long for this tar format`)
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  block.write(path, 0)
  block.write(octal(mode, 7), 100)
  block.write(octal(owner, 7), 108)
  block.write(octal(owner, 7), 116)
  block.write(octal(size, 11), 124)
  block.write(octal(0, 11), 136)
  block.write(`        ${path.endsWith('/') ? '5' : '0'}`, 148) // for the checksum, its own field counts as blanks
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)} `, 148)
  return block
}
