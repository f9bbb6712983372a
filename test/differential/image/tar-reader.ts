import type { Bytes } from '../generate/model.ts'

/** One entry of a layer. */
export interface TarItem {
  /** Without a trailing slash. */
  path: Bytes
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'other'
  mode: number
  uid: number
  gid: number
  link: Bytes
  content: Buffer
}

const BLOCK = 512
const TYPES: Record<string, TarItem['type']> = {
  '0': 'file',
  '\0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '5': 'directory',
}

/** Reads a tar (ustar, with pax records and GNU long names). */
export function* readTar(bytes: Buffer): Generator<TarItem> {
  let pax: Record<string, Bytes> = {}
  for (let at = 0; at + BLOCK <= bytes.length; ) {
    const header = bytes.subarray(at, at + BLOCK)
    if (header[0] === 0) return
    const type = String.fromCharCode(header[156] ?? 0)
    const size = Number(pax.size ?? number(header, 124, 12))
    const content = bytes.subarray(at + BLOCK, at + BLOCK + size)
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK
    if (type === 'x') pax = { ...pax, ...paxRecords(content) }
    else if (type === 'L') pax.path = text(content, 0, size)
    else if (type === 'K') pax.linkpath = text(content, 0, size)
    else if (type !== 'g') {
      yield item(header, TYPES[type] ?? 'other', content, pax)
      pax = {}
    }
  }
}

function item(header: Buffer, type: TarItem['type'], content: Buffer, pax: Record<string, Bytes>): TarItem {
  const prefix = text(header, 345, 155)
  const name = text(header, 0, 100)
  const path = pax.path ?? (prefix === '' ? name : `${prefix}/${name}`)
  return {
    path: path.replace(/^(\.?\/)+|\/$/g, ''),
    type,
    mode: number(header, 100, 8) & 0o7777,
    uid: Number(pax.uid ?? number(header, 108, 8)),
    gid: Number(pax.gid ?? number(header, 116, 8)),
    link: type === 'symlink' || type === 'hardlink' ? (pax.linkpath ?? text(header, 157, 100)) : '',
    content: type === 'file' ? content : Buffer.alloc(0),
  }
}

/** Records `<length> <key>=<value>\n`; the length is that of the whole record. */
function paxRecords(bytes: Buffer): Record<string, Bytes> {
  const found: Record<string, Bytes> = {}
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at)
    const end = at + Number(bytes.toString('latin1', at, space))
    const equals = bytes.indexOf(0x3d, space)
    found[bytes.toString('latin1', space + 1, equals)] = bytes.toString('latin1', equals + 1, end - 1)
    at = end
  }
  return found
}

/** Octal digits, or binary if the first bit is set. */
function number(bytes: Buffer, at: number, length: number): number {
  if (((bytes[at] ?? 0) & 0x80) !== 0) return Number(bytes.readBigUInt64BE(at + length - 8))
  return Number.parseInt(text(bytes, at, length).trim() || '0', 8)
}

function text(bytes: Buffer, at: number, length: number): Bytes {
  const field = bytes.subarray(at, at + length)
  const end = field.indexOf(0)
  return field.toString('latin1', 0, end < 0 ? length : end)
}
