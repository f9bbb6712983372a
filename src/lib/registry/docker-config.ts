import { readFile, stat } from 'node:fs/promises'
import { ConveyorError } from '../core/errors.ts'
import type { AuthEntry } from './auth-config.ts'
import { canonicalHost } from './image-name.ts'

/** The logins in Docker's config.json, and in the .dockercfg of Docker before 1.7. */

/** The parts of config.json that say where logins are; each keyed by a host in one of its spellings. */
export interface DockerConfig {
  file: string
  auths: Record<string, AuthEntry>
  /** Credential helpers by host. */
  credHelpers: Record<string, string>
  /** The credential helper for all other hosts. */
  credsStore: string | undefined
}

/**
 * Reads config.json, again whenever it has changed; null while the file does not exist. Throws ConveyorError
 * `invalid`, which names the file but never quotes it.
 */
export function configReader(file: string): () => Promise<DockerConfig | null> {
  return cachedByMtime(file, parseConfig)
}

/** The same for .dockercfg. */
export function legacyReader(file: string): () => Promise<DockerConfig | null> {
  return cachedByMtime(file, parseLegacy)
}

/** The entry for a canonical host under whatever spelling; the canonical one takes precedence. */
export function entryFor<T>(map: Record<string, T>, host: string): { key: string; value: T } | null {
  const key = Object.hasOwn(map, host) ? host : Object.keys(map).find((k) => canonicalHost(k) === host)
  const value = key === undefined ? undefined : map[key]
  return key === undefined || value === undefined ? null : { key, value }
}

/** Undefined if the text is not JSON. The parser's message would quote the text, so it is not passed on. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Something in the file is invalid. */
export function configError(file: string, why: string): ConveyorError {
  return new ConveyorError('invalid', `${file}: ${why}`, {
    hint: 'Correct the file, or run `docker login` again',
  })
}

function cachedByMtime<T>(file: string, parse: (file: string, text: string) => T): () => Promise<T | null> {
  let cached: { version: string; value: T } | null = null
  return async () => {
    try {
      const { mtimeNs, size, ino } = await stat(file, { bigint: true })
      const version = `${mtimeNs} ${size} ${ino}`
      if (cached?.version !== version) cached = { version, value: parse(file, await readFile(file, 'utf8')) }
      return cached.value
    } catch (error) {
      if (error instanceof ConveyorError) throw error
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return null
      throw configError(file, `cannot be read (${code ?? 'unknown error'})`)
    }
  }
}

function parseConfig(file: string, text: string): DockerConfig {
  const json = parseObject(file, text)
  const { credsStore } = json
  if (credsStore !== undefined && typeof credsStore !== 'string')
    throw configError(file, 'credsStore is not a string')
  return {
    file,
    auths: mapOf(file, 'auths', json.auths, isAuthEntry),
    credHelpers: mapOf(file, 'credHelpers', json.credHelpers, (value) => typeof value === 'string'),
    credsStore: credsStore || undefined,
  }
}

function parseLegacy(file: string, text: string): DockerConfig {
  const auths = mapOf(file, 'the file', parseObject(file, text), isAuthEntry)
  return { file, auths, credHelpers: {}, credsStore: undefined }
}

function mapOf<T>(
  file: string,
  name: string,
  value: unknown,
  isEntry: (entry: unknown) => entry is T,
): Record<string, T> {
  if (value === undefined || value === null) return {}
  if (!isRecord(value)) throw configError(file, `${name} is not an object`)
  const entries = Object.entries(value).map(([key, entry]): [string, T] => {
    if (!isEntry(entry)) throw configError(file, `${name} has an invalid entry for ${key}`)
    return [key, entry]
  })
  return Object.fromEntries(entries)
}

function parseObject(file: string, text: string): Record<string, unknown> {
  const value = parseJson(text)
  if (!isRecord(value)) throw configError(file, 'is not a JSON object')
  return value
}

function isAuthEntry(value: unknown): value is AuthEntry {
  if (!isRecord(value)) return false
  const fields = [value.auth, value.username, value.password, value.identitytoken]
  return fields.every((field) => field === undefined || typeof field === 'string')
}
