import { Pace } from '../../util/pace.ts'

/** Names of fields, and for those of objects which of their fields. */
export interface Wanted {
  [name: string]: Wanted | true
}

/** A text is not JSON, or is deeper than anybody's. */
export class NotJson extends Error {
  /** Where it goes wrong, in characters. */
  readonly position: number

  constructor(position: number) {
    super(`it is not JSON at ${position}`)
    this.position = position
  }
}

/** Longer strings, in characters, are given as they are written, with their escapes. */
const LONGEST_STRING = 1 << 20
/** Objects and arrays in each other; webhooks have five. */
const DEEPEST = 1000
/** Longer numbers are nobody's. */
const LONGEST_NUMBER = 1000

/** An object or array that is not at its end. */
interface Open {
  isArray: boolean
  wanted: Wanted
  fields: Record<string, unknown>
  /** The wanted field whose value is at hand. */
  name: string | null
}

const BEGINS = Symbol('an object or array begins')

/**
 * What JSON.parse gives, but of objects only the fields that are wanted, and arrays empty: in turns of the event loop,
 * and with no memory for all the rest, of which 25 MB can come to over a gigabyte.
 * @throws NotJson, or the reason of the pace's signal
 */
export async function pickedJson(text: string, wanted: Wanted, pace: Pace = new Pace()): Promise<unknown> {
  // The text was just made, which takes some time, too.
  await pace.rest()
  const scan = new Scan(text)
  const open: Open[] = []
  let due: Wanted | true | null = wanted
  for (let count = 1; ; count += 1) {
    if (count % 1024 === 0 && pace.isDue) await pace.rest()
    let value = scan.value(due !== null)
    if (value === BEGINS) {
      const one: Open = {
        ...scan.begin(),
        wanted: due === null || due === true ? {} : due,
        fields: {},
        name: null,
      }
      open.push(one)
      if (open.length > DEEPEST) throw scan.wrong()
      if (!scan.takes(one.isArray ? ']' : '}')) {
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
      if (scan.takes(',')) {
        due = scan.next(around)
        break
      }
      if (!scan.takes(around.isArray ? ']' : '}')) throw scan.wrong()
      open.pop()
      value = around.isArray ? [] : around.fields
    }
  }
}

/** Goes through a JSON text, token by token. */
class Scan {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  wrong(): NotJson {
    return new NotJson(Math.min(this.#at, this.#text.length))
  }

  /** Passes over blanks, and then over this character if it is there. */
  takes(char: string): boolean {
    this.#blanks()
    if (this.#text.charAt(this.#at) !== char) return false
    this.#at += 1
    return true
  }

  end(): void {
    this.#blanks()
    if (this.#at < this.#text.length) throw this.wrong()
  }

  /** The value at hand, null where it is not kept; BEGINS, without passing over it, for an object or array. */
  value(isKept: boolean): unknown {
    this.#blanks()
    const char = this.#text.charAt(this.#at)
    if (char === '{' || char === '[') return BEGINS
    const value = char === '"' ? this.#string(isKept) : this.#literal()
    return isKept ? value : null
  }

  begin(): { isArray: boolean } {
    this.#at += 1
    return { isArray: this.#text.charAt(this.#at - 1) === '[' }
  }

  /** Up to the next value of what is open: what is wanted of it, null for nothing. */
  next(open: Open): Wanted | true | null {
    if (open.isArray) return null
    this.#blanks()
    if (this.#text.charAt(this.#at) !== '"') throw this.wrong()
    const name = this.#string(true)
    if (!this.takes(':')) throw this.wrong()
    open.name = Object.hasOwn(open.wanted, name) ? name : null
    return open.name === null ? null : (open.wanted[name] ?? null)
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
      if (end < 0) throw new NotJson(this.#text.length)
      hasEscapes ||= this.#text.charCodeAt(end - 1) === BACKSLASH
    } while (this.#isEscaped(end))
    this.#at = end + 1
    if (end === start + 1) return ''
    const inner = this.#text.slice(start + 1, end)
    if (inner.length > LONGEST_STRING) return inner
    if (!hasEscapes && !SPECIAL.test(inner)) return inner
    try {
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string
      return isKept ? value : ''
    } catch {
      throw new NotJson(start)
    }
  }

  /** Whether an odd number of backslashes is before it; strings begin with a quote. */
  #isEscaped(at: number): boolean {
    let from = at
    while (this.#text.endsWith(RUN, from)) from -= RUN.length
    while (this.#text.charCodeAt(from - 1) === BACKSLASH) from -= 1
    return (at - from) % 2 === 1
  }

  #literal(): unknown {
    const start = this.#at
    let end = start
    while (end - start < LONGEST_NUMBER && LITERAL.test(this.#text.charAt(end))) end += 1
    try {
      const value: unknown = JSON.parse(this.#text.slice(start, end))
      this.#at = end
      return value
    } catch {
      throw this.wrong()
    }
  }
}

const BACKSLASH = 0x5c
/** So many of them at a time. */
const RUN = '\\'.repeat(1024)
/** What may not be in a string as it is. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these
const SPECIAL = /[\x00-\x1f\\]/
const LITERAL = /[-+.\w]/
