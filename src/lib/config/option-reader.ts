import { OPTIONS, type Option, type OptionName, type OptionValues } from './options.ts'

/** Reads option values one by one, and keeps what is wrong with them: all of it is told together. */
export class OptionReader {
  /** One line for each: flag, variable, value, what is accepted. */
  readonly problems: string[]
  /** One line for each value that can be meant, but hardly is. */
  readonly warnings: string[] = []
  readonly #values: OptionValues

  /** @param problems what is known to be wrong before */
  constructor(values: OptionValues, problems: readonly string[] = []) {
    this.#values = values
    this.problems = [...problems]
  }

  /**
   * The value of an option, or its default; null where there is neither, or it is wrong.
   * @param accepted what is expected, for the message
   * @param parse undefined means that the text is none of that
   */
  get<T>(name: OptionName, accepted: string, parse: (text: string) => T | undefined): T | null {
    const option: Option = OPTIONS[name]
    const given = this.#values[name]
    // The values of a list come as an array from flags, and with commas between from the environment.
    const text = given === undefined || given === '' ? option.default : String(given)
    if (text === undefined) return null
    const parsed = parse(text)
    const odd = option.secret && oddity(text)
    if (parsed !== undefined) {
      if (odd) this.warnings.push(`--${name} (${option.env}) ${odd}, which ${COUNT}`)
      return parsed
    }
    const shown = option.secret === 'all' ? 'is not usable' : `is ${JSON.stringify(withoutPassword(text))}`
    this.reject(name, `${shown}: expected ${accepted}${odd ? `; it ${odd}` : ''}`)
    return null
  }

  /** Those of the options that were given, as environment variables. */
  given(names: readonly OptionName[]): Record<string, string> {
    const given = names.filter((name) => this.has(name))
    return Object.fromEntries(given.map((name) => [OPTIONS[name].env, String(this.#values[name])]))
  }

  has(name: OptionName): boolean {
    return this.#values[name] !== undefined && this.#values[name] !== ''
  }

  text(name: OptionName): string | null {
    return this.get(name, 'some text', (value) => value)
  }

  flag(name: OptionName): boolean {
    return this.get(name, 'true or false', (text) => ({ true: true, false: false })[text]) ?? false
  }

  oneOf<T extends string>(name: OptionName, values: readonly [...T[], T]): T | null {
    const last = values.length - 1
    const accepted = `${values.slice(0, last).join(', ')} or ${values[last]}`
    return this.get(name, accepted, (text) => values.find((value) => value === text))
  }

  /** The values of a list, none of which is wrong. */
  list(name: OptionName, accepted: string, isRight: (one: string) => boolean): string[] {
    const parse = (text: string) => {
      const values = text.split(',').map((one) => one.trim())
      return values.every(isRight) ? values : undefined
    }
    return this.get(name, accepted, parse) ?? []
  }

  /** The name of a network or a container. */
  name(name: OptionName, of: string): string | null {
    return this.get(name, `the name of a ${of}`, (text) =>
      /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/.test(text) ? text : undefined,
    )
  }

  /** Notes that the value of an option cannot stay. @param why begins with a verb */
  reject(name: OptionName, why: string): void {
    this.problems.push(`--${name} (${OPTIONS[name].env}) ${why}`)
  }
}

const COUNT = 'count as part of it: take them away if they are not meant'

/** What a secret has that is seldom meant; null for nothing. `docker --env-file` takes quotes as they are. */
function oddity(text: string): string | null {
  if (/[\r\n]/.test(text)) return 'has line breaks'
  if (/^(["'`]).*\1$/s.test(text)) return 'begins and ends with quotes'
  if (text !== text.trim()) return 'begins or ends with spaces'
  return null
}

/** A text without what may be the login of a URL. */
function withoutPassword(text: string): string {
  return text.replace(/\/\/.*@/s, '//[redacted]@').replace(/([?&]password=)[^&]*/g, '$1[redacted]')
}
