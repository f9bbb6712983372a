import type { Chance } from './chance.ts'

/** Characters that parsers trip over: NUL, all kinds of whitespace, half of a surrogate pair, line ends. */
export const ODD = [
  ...['\0', '\t', '\r', '\n', '\r\n', ' ', '\v', '\f', '\u0085', '\u00a0', '\u2028', '\ufeff', '\ufffd'],
  ...[
    '\ud800',
    '\udfff',
    '😀',
    'é',
    'ß',
    'İ',
    '"',
    "'",
    '`',
    '\\',
    '/',
    '//',
    '..',
    '$',
    '${',
    '}',
    '%',
    '%2F',
  ],
  ...[
    '-',
    '--',
    '=',
    ',',
    ', ',
    ';',
    ':',
    '@',
    '#',
    '!',
    '*',
    '**',
    '?',
    '[',
    ']',
    '^',
    '~',
    '<',
    '<<',
    '>',
    '|',
  ],
  ...['0', '-1', '1e309', '99999999999999999999', '__proto__', 'constructor', 'toString', 'null', 'true'],
]

/** A text of these words, with odd characters in between. */
export function textOf(chance: Chance, words: readonly string[], length: number): string {
  let text = ''
  while (text.length < length) text += chance.percent(85) ? chance.one(words) : chance.one(ODD)
  return text
}

/** Changes a text in a few places: truncates it, or removes, repeats, moves or inserts parts. */
export function mutated(chance: Chance, text: string, words: readonly string[]): string {
  let result = text
  for (let left = chance.size(6); left > 0; left -= 1) result = changed(chance, result, words)
  return result
}

function changed(chance: Chance, text: string, words: readonly string[]): string {
  const at = chance.whole(0, text.length)
  const end = Math.min(text.length, at + chance.size(40))
  const [before, piece, after] = [text.slice(0, at), text.slice(at, end), text.slice(end)]
  switch (chance.whole(0, 8)) {
    case 0:
      return before
    case 1:
      return before + after
    case 2:
      return before + piece.repeat(chance.whole(2, 4)) + after
    case 3:
      return before + piece + after.slice(0, chance.size(40)) + piece + after
    case 4:
      return before + chance.one(ODD) + after
    case 5:
      return before + chance.one(ODD) + piece + after
    default:
      return before + chance.one(words) + (chance.percent(50) ? piece : '') + after
  }
}

/** The same for bytes: truncated anywhere, or with some of them changed, inserted, removed or repeated. */
export function mutatedBytes(chance: Chance, bytes: Uint8Array): Buffer {
  let result = Buffer.from(bytes)
  for (let left = chance.whole(0, 4); left > 0; left -= 1) {
    const at = chance.whole(0, result.length)
    const end = Math.min(result.length, at + chance.size(64))
    const [before, piece, after] = [result.subarray(0, at), result.subarray(at, end), result.subarray(end)]
    switch (chance.whole(0, 5)) {
      case 0:
        result = Buffer.from(before)
        break
      case 1:
        result = Buffer.concat([before, after])
        break
      case 2:
        result = Buffer.concat([before, chance.bytes(chance.size(16)), piece, after])
        break
      case 3:
        result = Buffer.concat([before, piece, piece, after])
        break
      case 4:
        result = Buffer.concat([
          before,
          Buffer.alloc(piece.length, chance.one([0, 0x20, 0x7f, 0x80, 0xff])),
          after,
        ])
        break
      default:
        if (at < result.length) result.writeUInt8((result[at] ?? 0) ^ (1 << chance.whole(0, 7)), at)
    }
  }
  return result
}

/** Splits bytes into pieces in which they may arrive; some are empty. */
export function pieces(chance: Chance, bytes: Uint8Array): Buffer[] {
  const result: Buffer[] = []
  const most = chance.one([1, 7, 100, 4096, 1 << 16])
  // Only short texts arrive byte by byte.
  const least = Math.ceil(bytes.length / 2000)
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + least + chance.whole(0, most))
    result.push(Buffer.from(bytes.subarray(at, end)))
    at = end
  }
  return result
}
