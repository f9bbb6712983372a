import { isUtf8 } from 'node:buffer'

/**
 * Encodes the bytes of a log as log events, which are text, and decodes them.
 *
 * An event is a chunk of the log, of whole lines if possible, and ends with a mark:
 *
 *     #12 [build 3/7] RUN npm ci
 *     #12 4.021 added 214 packages
 *     [conveyor 3f9a01bc 17]
 *
 * The mark names the writer (one for each opening of the log) and numbers its events from 0. So a batch that was sent
 * twice, because the first response was lost, counts once, and an event that is not visible yet is noticed. As the mark
 * follows the text, no event is empty, which the service rejects, or ends with white space.
 *
 * A chunk that is not UTF-8, or contains control characters other than tab, line feed, carriage return and escape, is
 * stored with each such byte as `\xHH` and each backslash doubled, and marked as `escaped`. `begin` and `end` mark events
 * without text: the log was opened, or ended.
 */
export interface LogEvent {
  /** Null for an event that is not from Conveyor, and not part of the log. */
  mark: Mark | null
  /** Decoded on demand. */
  bytes(): Buffer
}

export interface Mark {
  /** Eight hex digits, random for each opening. */
  writer: string
  number: number
  kind: 'text' | 'begin' | 'end'
}

/** The most bytes of a log in one event: fully escaped, they still fit into 256 KiB, the older limit. */
export const CHUNK = 60 * 1024

const MARK = /\[conveyor ([0-9a-f]{8}) (\d{1,9})( begin| end| escaped)?\]$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNUSUAL = /[\0-\x08\v\f\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]/

/** The usual characters except the backslash, as UTF-8 with one character for each byte (Unicode 3.9, table 3-7). */
const USUAL = [
  '[\\t\\n\\r\\x1b\\x20-\\x5b\\x5d-\\x7e]',
  '\\xc2[\\xa0-\\xbf]',
  '[\\xc3-\\xdf][\\x80-\\xbf]',
  '\\xe0[\\xa0-\\xbf][\\x80-\\xbf]',
  '[\\xe1-\\xec\\xee][\\x80-\\xbf]{2}',
  '\\xed[\\x80-\\x9f][\\x80-\\xbf]',
  '(?!\\xef\\xb7[\\x90-\\xaf]|\\xef\\xbf[\\xbe\\xbf]|\\xef\\xbb\\xbf)\\xef[\\x80-\\xbf]{2}',
  '\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}',
  '[\\xf1-\\xf3][\\x80-\\xbf]{3}',
  '\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2}',
]
const USUAL_OR_BYTE = new RegExp(`((?:${USUAL.join('|')})+)|.`, 'gs')

/** The message of an event. `bytes` is empty for `begin` and `end`. */
export function encodeEvent({ writer, number, kind }: Mark, bytes: Buffer): string {
  if (kind !== 'text') return `[conveyor ${writer} ${number} ${kind}]`
  const text = isUtf8(bytes) ? bytes.toString() : null
  if (text !== null && !UNUSUAL.test(text)) return `${text}[conveyor ${writer} ${number}]`
  return `${escapeBytes(bytes)}[conveyor ${writer} ${number} escaped]`
}

export function decodeEvent(message: string): LogEvent {
  const match = MARK.exec(message)
  if (!match) return { mark: null, bytes: () => Buffer.from(message) }
  const [, writer = '', number, flag = ''] = match
  const text = message.slice(0, match.index)
  const kind = flag === ' begin' || flag === ' end' ? (flag.trim() as 'begin' | 'end') : 'text'
  return {
    mark: { writer, number: Number(number), kind },
    bytes: () => (flag === ' escaped' ? unescapeBytes(text) : Buffer.from(text)),
  }
}

/**
 * How many bytes go into the next event, at most `CHUNK`: all of them, or else up to the end of a line, or of a
 * character.
 */
export function cutChunk(bytes: Buffer): number {
  if (bytes.length <= CHUNK) return bytes.length
  const line = bytes.lastIndexOf(0x0a, CHUNK - 1)
  if (line >= 0) return line + 1
  let cut = CHUNK
  // Bytes 10xxxxxx continue a character, which has at most three of them.
  while (cut > CHUNK - 4 && ((bytes[cut] as number) & 0xc0) === 0x80) cut -= 1
  return ((bytes[cut] as number) & 0xc0) === 0x80 ? CHUNK : cut
}

function escapeBytes(bytes: Buffer): string {
  const escaped = bytes.toString('latin1').replace(USUAL_OR_BYTE, (all, usual) => {
    if (usual !== undefined) return all
    return all === '\\' ? '\\\\' : `\\x${all.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
  return Buffer.from(escaped, 'latin1').toString()
}

function unescapeBytes(text: string): Buffer {
  const bytes = Buffer.from(text).toString('latin1')
  const plain = bytes.replace(/\\(?:\\|x([0-9a-f]{2}))/g, (_all, hex?: string) =>
    hex === undefined ? '\\' : String.fromCharCode(Number.parseInt(hex, 16)),
  )
  return Buffer.from(plain, 'latin1')
}
