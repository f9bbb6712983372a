import { isSpace } from '../util/go-text.ts'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { Globs } from './glob.ts'

/** Stands for an unknown part of a value. No name contains a NUL. */
export const UNKNOWN = '\0'

/**
 * The value of a variable; undefined if it is not set; null if it was declared without a value, which some versions of
 * BuildKit treat as empty and others as unset.
 */
export type Lookup = (name: string) => string | null | undefined

/** Limits of values, which could grow without bounds (`ARG B=$A$A`), and of nesting. */
const MAX_VALUE = 1024
const MAX_DEPTH = 50

const LETTER = /[\p{L}\p{Nd}_]/u
const DIGIT = /\p{Nd}/u

/**
 * Substitutes variables and removes quotes, like BuildKit's shell.Lex.ProcessWord. Contains UNKNOWN where a value is
 * unknown.
 * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/shell/lex.go)
 * @throws InvalidDockerfile, UnpredictableDockerfile
 */
export function substitute(text: string, escapeChar: string, lookup: Lookup, globs = new Globs()): string {
  const lexer = new Lexer(text, { escapeChar, lookup, globs, raw: false, spaced: true })
  return lexer.until(null, false)
}

/**
 * Splits a line into words to find heredocs, or the name of a heredoc; variables are kept.
 * (Lex.ProcessWords with SkipUnsetEnv, RawQuotes and RawEscapes)
 * @param options.quotes whether to keep quotes; `escapes`, the same for escapes
 * @param options.spaced whether `<< EOF` is one word, as for newer frontends
 * @throws InvalidDockerfile if there are no heredocs in the line; UnpredictableDockerfile if versions differ
 */
export function wordsOf(text: string, options: { quotes: boolean; escapes: boolean; spaced: boolean }) {
  const words = new Words()
  const { quotes, escapes, spaced } = options
  const lexer = new Lexer(text, { escapeChar: '\\', lookup: null, globs: new Globs(), raw: quotes, spaced })
  lexer.until(null, escapes, words)
  return words.all()
}

class Words {
  readonly #words: string[] = []
  #word = ''

  add(char: string): void {
    if (!isSpace(char)) this.#word += char
    else this.#end()
  }

  addRaw(text: string): void {
    this.#word += text
  }

  all(): string[] {
    this.#end()
    return this.#words
  }

  #end(): void {
    if (this.#word !== '') this.#words.push(this.#word)
    this.#word = ''
  }
}

interface LexerOptions {
  escapeChar: string
  /** Null: no variable is set, and unset variables are kept (SkipUnsetEnv). */
  lookup: Lookup | null
  globs: Globs
  /** Whether to keep quotes (RawQuotes). */
  raw: boolean
  spaced: boolean
}

class Lexer {
  readonly #text: string
  readonly #options: LexerOptions
  #at = 0
  #depth = 0
  #rawEscapes = false

  constructor(text: string, options: LexerOptions) {
    this.#text = text
    this.#options = options
  }

  /** Processes up to and including a character, or null for the end. (processStopOn) */
  until(stop: string | null, rawEscapes: boolean, words?: Words): string {
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw new UnpredictableDockerfile('substitutions are too deep')
    const outer = this.#rawEscapes
    this.#rawEscapes = rawEscapes
    const result = this.#until(stop, words)
    this.#rawEscapes = outer
    this.#depth -= 1
    return result
  }

  #until(stop: string | null, words: Words | undefined): string {
    let result = ''
    while (this.#at < this.#text.length) {
      const char = this.#peek()
      if (char === stop) {
        this.#at += 1
        return result
      }
      if (char === '$') {
        const value = this.#dollar()
        for (const one of words ? value : '') words?.add(one)
        result += value
      } else if (char === "'" || char === '"' || (char === '<' && this.#options.spaced)) {
        const part = char === '<' ? this.#angle() : char === '"' ? this.#double() : this.#single()
        words?.addRaw(part)
        result += part
      } else if (char === this.#options.escapeChar) {
        const part = this.#escaped()
        words?.addRaw(part)
        result += part
      } else {
        this.#at += 1
        words?.add(char)
        result += char
      }
      if (this.#options.lookup && result.length > MAX_VALUE)
        throw new UnpredictableDockerfile('a value is too long')
    }
    if (stop !== null) throw new InvalidDockerfile(`there is no ${stop}`)
    return result
  }

  #peek(): string {
    return this.#text.charAt(this.#at)
  }

  /** Consumes the next character; empty at the end. */
  #next(): string {
    const char = this.#peek()
    this.#at += 1
    return char
  }

  #escaped(): string {
    const mark = this.#next()
    const char = this.#at < this.#text.length ? this.#next() : ''
    return this.#rawEscapes ? mark + char : char
  }

  #single(): string {
    const end = this.#text.indexOf("'", this.#at + 1)
    if (end < 0) throw new InvalidDockerfile('a single quote is not closed')
    const quoted = this.#text.slice(this.#at, end + 1)
    this.#at = end + 1
    return this.#options.raw ? quoted : quoted.slice(1, -1)
  }

  #double(): string {
    const { escapeChar, raw } = this.#options
    this.#at += 1
    let result = raw ? '"' : ''
    while (this.#at < this.#text.length) {
      if (this.#peek() === '$') {
        result += this.#dollar()
        if (this.#options.lookup && result.length > MAX_VALUE)
          throw new UnpredictableDockerfile('a value is too long')
        continue
      }
      let char = this.#next()
      if (char === '"') return raw ? `${result}"` : result
      if (char === escapeChar) {
        if (this.#rawEscapes) result += char
        // At the very end, the quote is unterminated either way.
        if (['"', '$', escapeChar].includes(this.#peek())) char = this.#next()
      }
      result += char
    }
    throw new InvalidDockerfile('a double quote is not closed')
  }

  #angle(): string {
    this.#at += 1
    if (this.#peek() !== '<') return '<'
    const from = this.#at - 1
    this.#at += 1
    while (['\t', '\r', ' '].includes(this.#peek())) this.#at += 1
    return this.#text.slice(from, this.#at)
  }

  /** `$NAME` or `${...}`, starting at the dollar sign. (processDollar) */
  #dollar(): string {
    this.#at += 1
    if (this.#peek() !== '{') {
      const name = this.#name()
      if (name === '') return '$'
      return this.#options.lookup ? (this.#options.lookup(name) ?? '') : `$${name}`
    }
    const from = this.#at - 1
    this.#at += 1
    if (['', '{', '}', ':'].includes(this.#peek())) throw new InvalidDockerfile('bad substitution')
    const name = this.#name()
    const modifier = this.#next()
    if (modifier === '}') {
      return this.#options.lookup ? (this.#options.lookup(name) ?? '') : this.#text.slice(from, this.#at)
    }
    if (modifier === '/') return this.#replacement(name)
    const colon = modifier === ':'
    const kind = colon ? this.#next() : modifier
    if (!colon && !'+-?#%'.includes(kind || ' ')) throw new InvalidDockerfile('unsupported modifier')
    // Older frontends only support modifiers with a colon, and find no heredocs in a line with any other.
    if (!this.#options.lookup && (!colon || !['+', '-', '?'].includes(kind)))
      throw new UnpredictableDockerfile('a modifier')
    if (colon && (kind === '#' || kind === '%')) throw new InvalidDockerfile('unsupported modifier')
    const word = this.until('}', kind === '#' || kind === '%')
    return this.#modified(name, kind, colon, word)
  }

  #modified(name: string, kind: string, colon: boolean, word: string): string {
    const { lookup } = this.#options
    if (!lookup) return `\${${name}:${kind}${word}}`
    const value = lookup(name)
    if (value?.includes(UNKNOWN)) return UNKNOWN
    if (value === null && !colon && '-+?'.includes(kind)) return UNKNOWN
    const isSet = value !== undefined && value !== null && !(colon && value === '')
    if (kind === '-') return isSet ? (value ?? '') : word
    if (kind === '+') return isSet ? word : ''
    if (kind === '?') {
      if (!isSet) throw new InvalidDockerfile(`${name} must have a value`)
      return value ?? ''
    }
    if (kind !== '#' && kind !== '%') throw new InvalidDockerfile('unsupported modifier')
    if (word.includes(UNKNOWN)) return UNKNOWN
    const greedy = word.startsWith(kind)
    const pattern = greedy ? word.slice(1) : word
    const { globs } = this.#options
    return kind === '#'
      ? globs.withoutPrefix(value ?? '', pattern, greedy)
      : globs.withoutSuffix(value ?? '', pattern, greedy)
  }

  /** `${NAME/PATTERN/TEXT}`, after its first slash. */
  #replacement(name: string): string {
    const { lookup, globs } = this.#options
    if (!lookup) throw new UnpredictableDockerfile('a modifier')
    const all = this.#peek() === '/'
    if (all) this.#at += 1
    const pattern = this.until('/', true)
    const text = this.until('}', true)
    const value = lookup(name) ?? ''
    if (`${value}${pattern}${text}`.includes(UNKNOWN)) return UNKNOWN
    return globs.replaced(value, pattern, text, all)
  }

  /** (processName) */
  #name(): string {
    const from = this.#at
    const first = this.#peek()
    if (first !== '' && '@*#?-$!'.includes(first)) this.#at += 1
    else {
      const pattern = DIGIT.test(first) ? DIGIT : LETTER
      for (;;) {
        const point = this.#text.codePointAt(this.#at)
        const char = point === undefined ? '' : String.fromCodePoint(point)
        if (!pattern.test(char)) break
        this.#at += char.length
      }
    }
    return this.#text.slice(from, this.#at)
  }
}
