import { Pace } from '../../../util/pace.ts'

/** Names of fields to keep, and for objects, which of their fields. */
export interface FieldSelection {
  [name: string]: FieldSelection | true
}

/** A text is not JSON, or is nested too deeply. */
export class JsonSyntaxError extends Error {
  /** Position of the error, in characters. */
  readonly position: number

  constructor(position: number) {
    super(`invalid JSON at position ${position}`)
    this.position = position
  }
}

/** Longer strings, in characters, are returned raw, with their escapes. */
const MAX_STRING = 1 << 20
/** Nesting of objects and arrays; webhooks have five levels. */
const MAX_DEPTH = 1000
/** In characters; real numbers are shorter. */
const MAX_NUMBER = 1000

/** An object or array that has not ended yet. */
interface Open {
  isArray: boolean
  selection: FieldSelection
  fields: Record<string, unknown>
  /** The selected field whose value is being parsed. */
  name: string | null
}

const BEGIN = Symbol('an object or array begins')

/**
 * JSON.parse for only the selected fields of objects, with empty arrays. Yields to the event loop, and needs no memory
 * for the rest: 25 MB of JSON can take over a gigabyte when parsed.
 * @throws JsonSyntaxError, or the reason of the pace's signal
 */
export async function parsePartialJson(
  text: string,
  selection: FieldSelection,
  pace: Pace = new Pace(),
): Promise<unknown> {
  // Decoding the text has just taken some time, too.
  await pace.rest()
  const scan = new Scan(text)
  const open: Open[] = []
  let due: FieldSelection | true | null = selection
  for (let count = 1; ; count += 1) {
    if (count % 1024 === 0 && pace.isDue) await pace.rest()
    let value = scan.value(due !== null)
    if (value === BEGIN) {
      const one: Open = {
        ...scan.begin(),
        selection: due === null || due === true ? {} : due,
        fields: {},
        name: null,
      }
      open.push(one)
      if (open.length > MAX_DEPTH) throw scan.error()
      if (!scan.skip(one.isArray ? ']' : '}')) {
        due = scan.next(one)
        continue
      }
      open.pop()
      value = one.isArray ? [] : one.fields
    }
    for (let around = open.at(-1); ; around = open.at(-1)) {
      if (!around) {
        scan.end()
        return value
      }
      if (around.name !== null) around.fields[around.name] = value
      if (scan.skip(',')) {
        due = scan.next(around)
        break
      }
      if (!scan.skip(around.isArray ? ']' : '}')) throw scan.error()
      open.pop()
      value = around.isArray ? [] : around.fields
    }
  }
}

/** Scans a JSON text token by token. */
class Scan {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  error(): JsonSyntaxError {
    return new JsonSyntaxError(Math.min(this.#at, this.#text.length))
  }

  /** Skips whitespace, and then this character if it is next. Returns whether it was. */
  skip(char: string): boolean {
    this.#blanks()
    if (this.#text.charAt(this.#at) !== char) return false
    this.#at += 1
    return true
  }

  end(): void {
    this.#blanks()
    if (this.#at < this.#text.length) throw this.error()
  }

  /** Reads the next value; null if it is not kept. For an object or array, returns BEGIN and does not move. */
  value(isKept: boolean): unknown {
    this.#blanks()
    const char = this.#text.charAt(this.#at)
    if (char === '{' || char === '[') return BEGIN
    const value = char === '"' ? this.#string(isKept) : this.#literal()
    return isKept ? value : null
  }

  begin(): { isArray: boolean } {
    this.#at += 1
    return { isArray: this.#text.charAt(this.#at - 1) === '[' }
  }

  /** Moves to the next value in an object or array. Returns what is selected of it, null for nothing. */
  next(open: Open): FieldSelection | true | null {
    if (open.isArray) return null
    this.#blanks()
    if (this.#text.charAt(this.#at) !== '"') throw this.error()
    const name = this.#string(true)
    if (!this.skip(':')) throw this.error()
    open.name = Object.hasOwn(open.selection, name) ? name : null
    return open.name === null ? null : (open.selection[name] ?? null)
  }

  #blanks(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at += 1
    }
  }

  #string(isKept: boolean): string {
    const start = this.#at
    let end = start
    let hasEscapes = false
    do {
      end = this.#text.indexOf('"', end + 1)
      if (end < 0) throw new JsonSyntaxError(this.#text.length)
      hasEscapes ||= this.#text.charCodeAt(end - 1) === BACKSLASH
    } while (this.#isEscaped(end))
    this.#at = end + 1
    if (end === start + 1) return ''
    const inner = this.#text.slice(start + 1, end)
    if (inner.length > MAX_STRING) return inner
    if (!hasEscapes && !SPECIAL.test(inner)) return inner
    try {
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string
      return isKept ? value : ''
    } catch {
      throw new JsonSyntaxError(start)
    }
  }

  /** Whether an odd number of backslashes precedes it; strings begin with a quote. */
  #isEscaped(at: number): boolean {
    let from = at
    while (this.#text.endsWith(RUN, from)) from -= RUN.length
    while (this.#text.charCodeAt(from - 1) === BACKSLASH) from -= 1
    return (at - from) % 2 === 1
  }

  #literal(): unknown {
    const start = this.#at
    let end = start
    while (end - start < MAX_NUMBER && LITERAL.test(this.#text.charAt(end))) end += 1
    try {
      const value: unknown = JSON.parse(this.#text.slice(start, end))
      this.#at = end
      return value
    } catch {
      throw this.error()
    }
  }
}

const BACKSLASH = 0x5c
/** Backslashes are skipped this many at a time. */
const RUN = '\\'.repeat(1024)
/** Characters that must be escaped in strings. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these
const SPECIAL = /[\x00-\x1f\\]/
const LITERAL = /[-+.\w]/
