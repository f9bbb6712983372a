import { resolve } from 'node:path'
import { isRepositoryPattern } from '../core/allowed-repositories.ts'
import { ConveyorError } from '../core/errors.ts'
import { repositoryKey } from '../core/repository-key.ts'
import { parseRegistryFlag } from '../registry/naming.ts'
import type { ValueType } from './option.ts'

/** Kinds of values that several options have, and how to combine them. */

/** A single value that `parse` reads; undefined means that it is not valid. */
export function value<T>(accepts: string, parse: ValueType<T>['parse']): ValueType<T> {
  return { accepts, parse, unset: null, form: 'value' }
}

/** A text of this form. */
export function matching(accepts: string, form: RegExp): ValueType<string> {
  return value(accepts, (text) => (form.test(text) ? text : undefined))
}

export const anyText = value('some text', (text) => text)

/** A path; relative ones are resolved against the working directory. */
export const directory = value('the path of a directory', (text) => resolve(text))

/** A flag without a value; as a variable, `true` or `false`. */
export const toggle: ValueType<boolean, boolean> = {
  accepts: 'true or false',
  parse: (text) => (text === 'true' || text === 'false' ? text === 'true' : undefined),
  unset: false,
  form: 'switch',
}

export function oneOf<const Texts extends readonly string[]>(...texts: Texts): ValueType<Texts[number]> {
  const list = new Intl.ListFormat('en-US', { type: 'disjunction' })
  return value(list.format(texts), (text) => texts.find((one) => one === text))
}

/** Several values of a kind, with commas in between. */
export function listOf<T>(type: ValueType<T>): ValueType<T[], T[]> {
  const parse: ValueType<T[]>['parse'] = (text, environment) => {
    const parsed = text.split(',').map((one) => type.parse(one.trim(), environment))
    return parsed.every((one) => one !== undefined) ? parsed : undefined
  }
  return { accepts: type.accepts, parse, unset: [], form: 'list' }
}

type StringMap<T> = ReadonlyMap<string, T>

/** A list of pairs, as a map. */
export function mapOf<T>(type: ValueType<[string, T]>): ValueType<StringMap<T>, StringMap<T>> {
  const list = listOf(type)
  const parse: ValueType<StringMap<T>>['parse'] = (text, environment) => {
    const pairs = list.parse(text, environment)
    return pairs && new Map(pairs)
  }
  return { ...list, parse, unset: new Map() }
}

/** A value for one repository, `owner/name` in lower case, or for all (null). */
export interface Scoped {
  repository: string | null
  value: string
}

/** A list like `scoped`, with at most one value for each repository, and one for the others. */
export function scopedOnce(type: ValueType<string>): ValueType<Scoped[], Scoped[]> {
  const list = scoped(type)
  const parse: ValueType<Scoped[]>['parse'] = (text, environment) => {
    const parsed = list.parse(text, environment)
    const isOnce = new Set(parsed?.map(({ repository }) => repository)).size === parsed?.length
    return isOnce ? parsed : undefined
  }
  return { ...list, accepts: `${list.accepts}, once for each`, parse }
}

const SCOPED = /^([\w.-]+\/[\w.-]+):(.*)$/s

/** A list of values, any of them with `OWNER/NAME:` in front. */
export function scoped(type: ValueType<string>): ValueType<Scoped[], Scoped[]> {
  const one = value(`${type.accepts}, optionally prefixed with OWNER/NAME:`, (text, environment) => {
    const [, repository = null, rest = text] = SCOPED.exec(text) ?? []
    const parsed = type.parse(rest, environment)
    return parsed === undefined
      ? undefined
      : { repository: repository && repositoryKey(repository), value: parsed }
  })
  return listOf(one)
}

/** Repositories, with `*` for any characters. */
export const repositoryPattern = value('OWNER/NAME with * for any characters, such as acme/*', (text) =>
  isRepositoryPattern(text) ? text : undefined,
)

export function wholeNumber(min: number, max: number, what = 'a whole number'): ValueType<number> {
  return value(`${what} from ${min} to ${max}`, (text) => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    return number >= min && number <= max ? number : undefined
  })
}

/** The name of a network or a container. */
export function nameOf(what: string): ValueType<string> {
  return matching(`the name of a ${what}`, /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/)
}

/** An http:// or https:// URL without login, as browsers write it; undefined for anything else. */
export function httpUrl(text: string): string | undefined {
  const url = URL.parse(text)
  const isPlain = /^https?:$/.test(url?.protocol ?? '') && url?.username === '' && url.password === ''
  return isPlain ? url.href : undefined
}

export function isHttpUrl(text: string): boolean {
  return httpUrl(text) !== undefined
}

/** Other paths are appended to it, so a query or fragment cannot be part of it. Without slashes at its end. */
export const baseUrl = value('an http:// or https:// URL without login, query, or fragment', (text) =>
  /[?#]/.test(text) ? undefined : httpUrl(text)?.replace(/\/+$/, ''),
)

/** Splits `user:pass`; undefined when it does not have that form. */
export function parseCredentials(text: string): { username: string; password: string } | undefined {
  const colon = text.indexOf(':')
  if (colon < 1 || colon === text.length - 1) return undefined
  return { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

export const registry = value(
  'host[:port][/prefix], such as ghcr.io/acme or http://registry.lan:5000',
  (text) => {
    try {
      parseRegistryFlag(text)
      return text
    } catch (error) {
      if (error instanceof ConveyorError) return undefined
      throw error
    }
  },
)

const DAY_MS = 24 * 3_600_000
const UNIT_MS = new Map([
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
])

/** `90s`, `20m` or `1h` in milliseconds. */
function milliseconds(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d{1,6})([smh])$/.exec(text) ?? []
  const unitMs = UNIT_MS.get(unit)
  return unitMs === undefined ? undefined : Number(number) * unitMs
}

/** A duration of at most a day, in milliseconds. */
export function duration(minSeconds: number, examples: string): ValueType<number> {
  return value(`a duration from ${minSeconds}s to 24h, such as ${examples}`, (text) => {
    const ms = milliseconds(text) ?? Number.NaN
    return ms >= minSeconds * 1000 && ms <= DAY_MS ? ms : undefined
  })
}

/** `5s,30s` in seconds; `none` is an empty list. */
export const retryDelays = value('up to 10 durations of at most 1h, such as 5s,30s, or none', (text) => {
  const delays = text === 'none' ? [] : text.split(',').map((one) => milliseconds(one.trim()) ?? Number.NaN)
  const valid = delays.length <= 10 && delays.every((ms) => ms <= 3_600_000)
  return valid ? delays.map((ms) => ms / 1000) : undefined
})

const UNIT_BYTES = new Map([
  ['MB', 1e6],
  ['GB', 1e9],
  ['TB', 1e12],
])

/** `500MB`, `20GB` or `1TB` in bytes. */
export const size = value('a size, such as 500MB or 20GB', (text) => {
  const [, number, unit = ''] = /^(\d{1,6})(MB|GB|TB)$/i.exec(text) ?? []
  const bytes = Number(number) * (UNIT_BYTES.get(unit.toUpperCase()) ?? 0)
  return bytes > 0 ? bytes : undefined
})
