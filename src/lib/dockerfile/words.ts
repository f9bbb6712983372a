import { isSpace, trimSpace } from '../util/go-text.ts'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'

/** White space between the parts of a line in BuildKit's parser (reWhitespace). */
const BLANKS = /[\t\v\f\r ]+/

/** The parts of a line, as in splitCommand. */
export interface Split {
  /** As written. */
  keyword: string
  /** `--name=value`, without quotes and escapes. */
  flags: string[]
  args: string
}

/** @throws UnpredictableDockerfile if versions of BuildKit differ */
export function splitLine(line: string, escapeChar: string): Split {
  const text = trimSpace(line)
  const blank = BLANKS.exec(text)
  if (!blank) return { keyword: text, flags: [], args: '' }
  const { flags, rest } = flagsOf(text.slice(blank.index + blank[0].length), escapeChar)
  return { keyword: text.slice(0, blank.index), flags, args: trimSpace(rest) }
}

/** The flags at the beginning of an instruction's arguments, and what follows them. (extractBuilderFlags) */
function flagsOf(text: string, escapeChar: string): { flags: string[]; rest: string } {
  const flags: string[] = []
  for (let at = 0; ; ) {
    while (at < text.length && isSpace(text.charAt(at))) at += 1
    if (!text.startsWith('--', at)) return { flags, rest: text.slice(at) }
    const from = at
    let word = ''
    let quote = ''
    for (; at < text.length; at += 1) {
      const char = text.charAt(at)
      if (quote === '' && isSpace(char)) break
      if (quote === '' ? char === '"' || char === "'" : char === quote) quote = quote === '' ? char : ''
      else if (char === '\\') {
        at += 1
        word += text.charAt(at)
      } else word += char
    }
    check(text.slice(from, at), escapeChar)
    if (word === '--') return { flags, rest: text.slice(at) }
    flags.push(word)
  }
}

function check(flag: string, escapeChar: string): void {
  // Older versions ignore `# escape` here.
  if (escapeChar !== '\\' && /[\\`]/.test(flag)) throw new UnpredictableDockerfile('an escape in a flag')
  // BuildKit processes bytes instead of characters, and treats some of them as spaces.
  if (/[^\0-\x7f]/.test(flag)) throw new UnpredictableDockerfile('a flag that is not ASCII')
}

/** The value of a flag; undefined if absent. @throws InvalidDockerfile if it is repeated or has no value */
export function flagValue(flags: string[], name: string): string | undefined {
  const values = flagValues(flags, name)
  if (values.length > 1) throw new InvalidDockerfile(`--${name} is repeated`)
  return values[0]
}

/** @throws InvalidDockerfile */
export function flagValues(flags: string[], name: string): string[] {
  return flags.flatMap((flag) => {
    if (flag === `--${name}`) throw new InvalidDockerfile(`${flag} has no value`)
    return flag.startsWith(`--${name}=`) ? [flag.slice(name.length + 3)] : []
  })
}

/** The members of `["a", "b"]`; null for anything but a list. @throws InvalidDockerfile for a list of anything but strings */
export function jsonStrings(args: string): string[] | null {
  if (!args.startsWith('[')) return null
  let list: unknown
  try {
    list = JSON.parse(args)
  } catch {
    return null
  }
  const strings = Array.isArray(list) ? list.filter((one) => typeof one === 'string') : []
  if (!Array.isArray(list) || strings.length !== list.length)
    throw new InvalidDockerfile('a list of anything but strings')
  return strings
}

/** (parseStringsWhitespaceDelimited) */
export function split(args: string): string[] {
  return args === '' ? [] : args.split(BLANKS)
}

/** The words of ARG and ENV, with their quotes and escapes. (parseWords) */
function quotedWords(args: string, escapeChar: string): string[] {
  const words: string[] = []
  let word: string | null = null
  let quote = ''
  for (let at = 0; at < args.length; at += 1) {
    const char = args.charAt(at)
    if (quote === '' && isSpace(char)) {
      if (word !== null && word !== '') words.push(word)
      word = null
      continue
    }
    word ??= ''
    if (char === escapeChar && quote !== "'") {
      // Dropped at the end of the line.
      if (at + 1 < args.length) word += char + args.charAt(at + 1)
      at += 1
      continue
    }
    if (quote === '' ? char === '"' || char === "'" : char === quote) quote = quote === '' ? char : ''
    word += char
  }
  if (word !== null && word !== '') words.push(word)
  return words
}

/** `NAME=VALUE ...`, or with ENV also `NAME VALUE`, with quotes and escapes. @throws InvalidDockerfile */
export function assignments(args: string, escapeChar: string, old: boolean): [string, string | null][] {
  const words = quotedWords(args, escapeChar)
  if (old && words[0] !== undefined && !words[0].includes('=')) {
    const blank = BLANKS.exec(args)
    if (!blank) throw new InvalidDockerfile('a value is missing')
    return [[args.slice(0, blank.index), args.slice(blank.index + blank[0].length)]]
  }
  return words.map((word) => {
    const at = word.indexOf('=')
    if (at === 0 || (old && at < 0)) throw new InvalidDockerfile(`${word} is not NAME=VALUE`)
    return at < 0 ? [word, null] : [word.slice(0, at), word.slice(at + 1)]
  })
}

/** The fields of one line of comma-separated values, as Go's encoding/csv reads it. @throws InvalidDockerfile */
export function csvFields(line: string): string[] {
  const fields: string[] = []
  for (let at = 0; ; at += 1) {
    if (line.charAt(at) !== '"') {
      const comma = line.indexOf(',', at)
      const field = line.slice(at, comma < 0 ? line.length : comma)
      if (field.includes('"')) throw new InvalidDockerfile('a quote in a field')
      fields.push(field)
      if (comma < 0) return fields
      at = comma
      continue
    }
    let field = ''
    for (;;) {
      const end = line.indexOf('"', at + 1)
      if (end < 0) throw new InvalidDockerfile('an unterminated quote')
      field += line.slice(at + 1, end)
      at = end + 1
      if (line.charAt(at) !== '"') break
      field += '"'
    }
    fields.push(field)
    if (at >= line.length) return fields
    if (line.charAt(at) !== ',') throw new InvalidDockerfile('text after a quoted field')
  }
}
