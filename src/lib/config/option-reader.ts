import type { Option, Section } from './option.ts'
import { withoutPassword } from './passwords.ts'

/** Values by the names of flags, as a command line parser gives them; others are ignored. */
export type OptionValues = Readonly<Record<string, unknown>>

/** Reads option values, and collects everything that is wrong with them, to be reported together. */
export class OptionReader {
  /** One line for each: flag, variable, value, what is accepted. */
  readonly problems: string[]
  /** One line for each value that is valid, but probably a mistake. */
  readonly warnings: string[] = []
  readonly environment: NodeJS.ProcessEnv
  readonly #values: OptionValues

  /** @param problems what is already known to be wrong */
  constructor(values: OptionValues, environment: NodeJS.ProcessEnv, problems: readonly string[] = []) {
    this.#values = values
    this.environment = environment
    this.problems = [...problems]
  }

  /** The values of options. One that is not valid becomes a problem, and counts as not given. */
  read<V extends object>(section: Section<V>): V {
    const values: Partial<V> = {}
    for (const key in section) values[key] = this.#value(section[key])
    if (!isComplete(section, values)) throw new Error('an option has not been read')
    return values
  }

  /** The options that are given, as environment variables. */
  given(options: readonly Option[]): Record<string, string> {
    const given = options.filter((one) => this.isGiven(one))
    return Object.fromEntries(given.map((one) => [one.env, this.#text(one)]))
  }

  /** An empty value counts as not given: docker compose passes unset variables as empty. */
  isGiven(option: Option): boolean {
    return this.#text(option) !== ''
  }

  /** Adds a problem with the value of an option. @param why begins with a verb */
  reject(option: Option, why: string): void {
    this.problems.push(aboutOption(option, why))
  }

  #value<T>(option: Option<T>): T {
    if (!this.isGiven(option)) return option.unset
    const text = this.#text(option)
    const parsed = option.parse(text, this.environment)
    const odd = option.secret && oddity(text, option.lines)
    if (parsed !== undefined) {
      if (odd) this.warnings.push(`--${option.flag} (${option.env}) ${odd}, ${PART_OF_IT}`)
      return parsed
    }
    const shown = option.secret === 'all' ? 'is not usable' : `is ${JSON.stringify(withoutPassword(text))}`
    this.reject(option, `${shown}: expected ${option.accepts}${odd ? `; it ${odd}` : ''}`)
    return option.unset
  }

  /** The values of a list come as an array from flags, and with commas from the environment. */
  #text({ flag }: Option): string {
    return String(this.#values[flag] ?? '')
  }
}

/** A problem with the value of an option. @param why begins with a verb */
export function aboutOption({ flag, env }: Option, why: string): string {
  return `--${flag} (${env}) ${why}`
}

function isComplete<V extends object>(section: Section<V>, values: Partial<V>): values is V {
  return Object.keys(section).every((key) => key in values)
}

const PART_OF_IT = 'which are part of the value: remove them if that is not intended'

/** What is unusual about a secret, if anything. `docker --env-file` keeps quotes. */
function oddity(text: string, hasLines: boolean): string | null {
  if (!hasLines && /[\r\n]/.test(text)) return 'contains line breaks'
  if (/^(["'`]).*\1$/s.test(text)) return 'begins and ends with quotes'
  if (!hasLines && text !== text.trim()) return 'begins or ends with spaces'
  return null
}
