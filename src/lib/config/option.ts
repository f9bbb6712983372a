/**
 * What an option is made of. An entry of the table (options/) says everything about one: flag, variable, help, parser,
 * and default. Config, --help, and docs/options.md follow from it.
 */

/** A kind of value. */
export interface ValueType<T, Unset = null> {
  /** What is expected, for error messages. */
  accepts: string
  /** @returns undefined when the text is not valid */
  parse: (text: string, environment: NodeJS.ProcessEnv) => T | undefined
  /** The value of an option that has no default and is not given. */
  unset: Unset
  /** A switch has no value on the command line; a list is a repeated flag, or one value with commas. */
  form: 'value' | 'switch' | 'list'
}

/** Commands that take some of the options; `server` and `doctor` take all. */
export type Taker = 'worker' | 'build' | 'builder' | 'bootstrap'

/** An option as the table declares it. */
interface Entry<T, Unset> {
  /** Name of the flag, without dashes. */
  flag: string
  /** Name of the environment variable. */
  env: string
  /** For --help and the docs: a capital first, no period, no default. */
  help: string
  type: ValueType<T, Unset>
  /** Placeholder of the value in --help; a switch has none. */
  value?: string
  /** Read as if it were given. */
  default?: string
  /** What people read as the default, where that is not its text. */
  defaultText?: string
  /** `all`: the value is never shown, not even in an error; `password`: the login of a URL is not. */
  secret?: 'all' | 'password'
  /** A secret of several lines. */
  lines?: boolean
  /** Default: `worker`. */
  commands?: readonly Taker[]
  /** Passed on to containers of Conveyor's own builder image when it is given. */
  inherited?: boolean
}

/** An option of the table whose value is a `T`. */
export interface Option<T = unknown> {
  readonly flag: string
  readonly env: string
  readonly help: string
  readonly value: string | undefined
  readonly defaultText: string | undefined
  /** Whether `defaultText` is a value to give, rather than a description. */
  readonly literal: boolean
  readonly secret: 'all' | 'password' | undefined
  readonly lines: boolean
  readonly commands: readonly Taker[]
  readonly inherited: boolean
  readonly form: 'value' | 'switch' | 'list'
  readonly accepts: string
  readonly parse: (text: string, environment: NodeJS.ProcessEnv) => T | undefined
  /** The value when it is not given. */
  readonly unset: T
}

/** Options by the names that their values have in Config, where these are a `V`. */
export type Section<V> = { readonly [Key in keyof V]: Option<V[Key]> }

export const SERVER_ONLY: readonly Taker[] = []
/** Also where `conveyor build --local` builds. */
export const LOCAL: readonly Taker[] = ['worker', 'build']
/** Also where the builder image builds. */
export const EVERY_BUILD: readonly Taker[] = ['worker', 'build', 'builder']

/** Declares an option. @throws Error when its default is not valid */
export function option<T, Unset>(entry: Entry<T, Unset> & { default: string }): Option<T>
export function option<T, Unset>(entry: Entry<T, Unset>): Option<T | Unset>
export function option<T, Unset>(entry: Entry<T, Unset>): Option<T | Unset> {
  const { type, default: text, defaultText = text, commands = ['worker'], inherited = false } = entry
  const unset = text === undefined ? type.unset : type.parse(text, {})
  if (unset === undefined) throw new Error(`the default of --${entry.flag} is not valid: ${text}`)
  const { flag, env, help, value, secret, lines = false } = entry
  const { form, accepts, parse } = type
  const literal = text !== undefined && defaultText === text
  return {
    flag,
    env,
    help,
    value,
    defaultText,
    literal,
    secret,
    lines,
    commands,
    inherited,
    form,
    accepts,
    parse,
    unset,
  }
}

/** The help of an option with its default, for a line of --help. */
export function helpOf({ help, form, defaultText }: Option): string {
  const repeated = form === 'list' ? ' (repeatable or comma-separated)' : ''
  return `${help}${repeated}${defaultText === undefined ? '' : ` [default: ${defaultText}]`}`
}
