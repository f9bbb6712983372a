import { resolve } from 'node:path'
import { ConveyorError } from '../core/errors.ts'
import { postgresUrl } from '../db/postgres-url.ts'
import { sqsUrl } from '../queue/sqs/url.ts'
import { parseRegistryFlag } from '../registry/image-name.ts'
import { percentDecoded } from '../util/percent.ts'
import type { Config } from './config.ts'

/** The kinds of values that options have. Each gives what it reads, or undefined when that cannot be meant. */

export function wholeNumber(min: number, max: number): (text: string) => number | undefined {
  return (text) => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    return number >= min && number <= max ? number : undefined
  }
}

export function httpUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined
  const { protocol, username, password } = new URL(text)
  const ok = (protocol === 'http:' || protocol === 'https:') && username === '' && password === ''
  return ok ? text.replace(/\/+$/, '') : undefined
}

/** What other paths are put after: nothing may come between. */
export function baseUrl(text: string): string | undefined {
  return /[?#]/.test(text) ? undefined : httpUrl(text)
}

export function gitUrl(text: string): string | undefined {
  if (!text.includes('{repository}') || /\s/.test(text)) return undefined
  if (/^[\w.-]+@[\w.-]+:[^/]?/.test(text)) return text
  if (!URL.canParse(text)) return undefined
  const { protocol, username, password } = new URL(text)
  if (protocol === 'file:') return text
  if (protocol === 'ssh:') return password === '' ? text : undefined
  return httpUrl(`${protocol}//x`) && username === '' && password === '' ? text : undefined
}

/** The name of a host, `*.` and a domain, or `*`. */
export function isHostPattern(text: string): boolean {
  return /^(\*|(\*\.)?[\w-]+(\.[\w-]+)*)$/.test(text)
}

/** `NAME:PORT=HOST:PORT`. */
export function isAddressPair(text: string): boolean {
  return /^[\w-]+(\.[\w-]+)*:\d{1,5}=([\w-]+(\.[\w-]+)*|\[[\da-f:]+\]):\d{1,5}$/.test(text)
}

export function addressPairs(pairs: string[]): ReadonlyMap<string, string> {
  return new Map(pairs.map((pair) => pair.split('=') as [string, string]))
}

/** `user:pass` taken apart; undefined when it is not of that form. */
export function parseCredentials(text: string): { username: string; password: string } | undefined {
  const colon = text.indexOf(':')
  if (colon < 1 || colon === text.length - 1) return undefined
  return { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

export function registry(text: string): string | undefined {
  try {
    parseRegistryFlag(text)
    return text
  } catch (error) {
    if (error instanceof ConveyorError) return undefined
    throw error
  }
}

export function logger(text: string): Config['logger'] | undefined {
  const [, scheme, rest = ''] = /^([a-z0-9]+):\/\/(.*)$/.exec(text) ?? []
  if (rest === '') return scheme === 'stdout' || scheme === 'postgres' ? { kind: scheme } : undefined
  if (scheme === 'file') return { kind: 'file', dir: resolve(rest) }
  if (scheme === 'cloudwatch') return GROUP.test(rest) ? { kind: 'cloudwatch', group: rest } : undefined
  if (scheme !== 's3') return undefined
  const [, bucket, prefix = ''] = /^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/*$/.exec(rest) ?? []
  return bucket ? { kind: 's3', bucket, prefix } : undefined
}

/** Names of log groups: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html */
const GROUP = /^[\w./#-]{1,512}$/

/** @param environmentUrl of a bare `sqs://` */
export function queue(text: string, environmentUrl: string | undefined): Config['queue'] | undefined {
  if (text === 'memory://') return { kind: 'memory' }
  if (text === 'postgres://') return { kind: 'postgres', url: null }
  if (text.startsWith('sqs://')) {
    const url = sqsUrl(text, environmentUrl)
    return url ? { kind: 'sqs', url } : undefined
  }
  return postgres(text)
}

export function database(text: string): Config['db'] | undefined {
  const file = /^sqlite:\/\/(.+)$/.exec(text)?.[1]
  return file ? { kind: 'sqlite', file: resolve(file) } : postgres(text)
}

function postgres(text: string): { kind: 'postgres'; url: string } | undefined {
  const url = postgresUrl(text)
  return url === undefined ? undefined : { kind: 'postgres', url }
}

/** Whether a text may be a URL with a password in it, however it is spelled. */
export function hasPassword(text: string): boolean {
  const login = text.slice(text.indexOf('://') + 3, Math.max(0, text.lastIndexOf('@')))
  return (text.includes('://') && login.includes(':')) || /[?&]password=./.test(text)
}

/** The password of a URL, as it is written there and as it is meant; Postgres takes it as a parameter, too. */
export function passwordsOf(url: string | null): string[] {
  const { password = '', searchParams } = URL.parse(url ?? '') ?? {}
  const all = [password, percentDecoded(password), searchParams?.get('password') ?? '']
  return [...new Set(all)].filter((one) => one !== '')
}

/** As Dockerfiles name stages and images. */
const CONTEXT_NAME = /^[a-z][a-z0-9._-]*(:\d+\/)?[a-z0-9._/-]*(:[\w.-]+)?$/
const IMAGE_CONTEXT = /^docker-image:\/\/[a-z0-9][\w./-]*(:[\w./-]+)*(@sha256:[0-9a-f]{64})?$/

/** `NAME=docker-image://IMAGE` or `NAME=https://...`, with the name as BuildKit looks it up: images in short. */
export function namedContext(text: string): string | undefined {
  const at = text.indexOf('=')
  const [name, from] = [text.slice(0, at), text.slice(at + 1)]
  const url = /^https?:\/\/\S+$/.test(from) && httpUrl(from) !== undefined
  if (!CONTEXT_NAME.test(name) || !(url || IMAGE_CONTEXT.test(from))) return undefined
  const short = name
    .replace(/^docker\.io\//, '')
    .replace(/^library\//, '')
    .replace(/:latest$/, '')
  return `${short}=${from}`
}

export const DAY_MS = 24 * 3_600_000

/** `90s`, `20m` or `1h` in milliseconds. */
export function duration(minMs: number, maxMs: number): (text: string) => number | undefined {
  return (text) => {
    const match = /^(\d{1,6})(s|m|h)$/.exec(text)
    if (!match) return undefined
    const ms = Number(match[1]) * ({ s: 1000, m: 60_000, h: 3_600_000 }[match[2] as 's' | 'm' | 'h'] ?? 0)
    return ms >= minMs && ms <= maxMs ? ms : undefined
  }
}

/** `5s,30s` in seconds; `none` is an empty list. */
export function retryDelays(text: string): number[] | undefined {
  const delays = text === 'none' ? [] : text.split(',').map((one) => duration(0, 3_600_000)(one.trim()))
  if (delays.length > 10 || delays.includes(undefined)) return undefined
  return (delays as number[]).map((ms) => ms / 1000)
}

/** `500MB`, `20GB` or `1TB` in bytes. */
export function size(text: string): number | undefined {
  const match = /^(\d{1,6})(MB|GB|TB)$/i.exec(text)
  const unit = { MB: 1e6, GB: 1e9, TB: 1e12 }[(match?.[2] ?? '').toUpperCase()]
  return unit && Number(match?.[1]) > 0 ? Number(match?.[1]) * unit : undefined
}
