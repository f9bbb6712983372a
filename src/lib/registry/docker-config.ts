import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { ConveyorError } from '../core/errors.ts'
import { IDENTITY_TOKEN_USER } from './identity-token.ts'
import { canonicalHost, DOCKER_HUB } from './image-name.ts'
import type { Credentials, RegistryCredential } from './registry.ts'

export interface DockerConfigOptions {
  /** Folder with docker's `config.json`; `~/.docker` by default. */
  configDir?: string
  /** The file of docker before 1.7: `~/.dockercfg`, or `.dockercfg` in a `configDir` that was given. */
  legacyFile?: string
  /** Told of every secret before it is handed out, so that logs can be kept free of it. */
  onSecret?: (secret: string) => void
  /** How long a credential helper may take, in milliseconds; 15 s by default. */
  helperTimeoutMs?: number
}

/** What of docker's config.json matters here; each part keyed by a host in one of its spellings. */
interface DockerConfig {
  file: string
  auths: Record<string, AuthEntry>
  credHelpers: Record<string, string>
  credsStore: string | undefined
}

interface AuthEntry {
  auth?: string
  username?: string
  password?: string
  identitytoken?: string
}

/** One place to look for the credential of a (canonical) host; null when it has none. */
type Locator = (config: DockerConfig, host: string) => Promise<RegistryCredential | null>

/**
 * The credentials that `docker login` stored. Looks, in this order, at the helper for the host
 * (`credHelpers`), the helper for all hosts (`credsStore`), `auths`, and the old `.dockercfg`; the first
 * answer wins. Files are read again when they change, so a new `docker login` needs no restart.
 *
 * `forHost` throws ConveyorError `invalid` naming the file (never its content) when a file is broken, or
 * when a helper failed and no other place had an answer.
 */
export function dockerConfigCredentials(options: DockerConfigOptions = {}): Credentials {
  const configDir = options.configDir ?? join(homedir(), '.docker')
  const legacyFile =
    options.legacyFile ?? join(options.configDir === undefined ? homedir() : configDir, '.dockercfg')
  const modern = cachedByMtime(join(configDir, 'config.json'), parseConfig)
  const legacy = cachedByMtime(legacyFile, parseLegacy)
  const timeoutMs = options.helperTimeoutMs ?? 15_000

  const places: { read: () => Promise<DockerConfig | null>; locators: Locator[] }[] = [
    { read: modern, locators: [hostHelper(timeoutMs), defaultHelper(timeoutMs), storedAuth] },
    { read: legacy, locators: [storedAuth] },
  ]

  async function find(host: string): Promise<RegistryCredential | null> {
    let failure: unknown
    for (const { read, locators } of places) {
      const config = await read()
      if (!config) continue
      for (const locate of locators) {
        try {
          const found = await locate(config, host)
          if (found) return found
        } catch (error) {
          failure ??= error
        }
      }
    }
    if (failure) throw failure
    return null
  }

  return {
    async forHost(host) {
      const found = await find(canonicalHost(host))
      if (found) {
        options.onSecret?.(found.password)
        options.onSecret?.(`${found.username}:${found.password}`)
      }
      return found
    },
  }
}

/** How helpers say that they have none: https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go */
const NOT_FOUND = 'credentials not found in native keychain'

function hostHelper(timeoutMs: number): Locator {
  return async (config, host) => {
    const helper = lookUp(config.credHelpers, host)
    return helper ? await askHelper(config, helper.value, host, timeoutMs) : null
  }
}

function defaultHelper(timeoutMs: number): Locator {
  return async (config, host) =>
    config.credsStore ? await askHelper(config, config.credsStore, host, timeoutMs) : null
}

const storedAuth: Locator = async (config, host) => {
  const found = lookUp(config.auths, host)
  if (!found) return null
  const { auth, username, password, identitytoken } = found.value
  if (identitytoken) return { username: IDENTITY_TOKEN_USER, password: identitytoken }
  if (auth) {
    // Old versions of docker padded the value with NUL bytes.
    const [, user, secret] =
      /^([^:]+):(.*)$/s.exec(Buffer.from(auth, 'base64').toString().replace(/\0+$/, '')) ?? []
    if (user === undefined || !secret) {
      throw broken(config.file, `the auth of ${found.key} is not user:password in base64`)
    }
    return { username: user, password: secret }
  }
  return username && password ? { username, password } : null
}

/**
 * Asks `docker-credential-NAME get`: the server on its stdin, JSON on its stdout.
 * https://github.com/docker/docker-credential-helpers#development
 */
async function askHelper(
  config: DockerConfig,
  helper: string,
  host: string,
  timeoutMs: number,
): Promise<RegistryCredential | null> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)) {
    throw broken(config.file, `the credential helper for ${host} has an impossible name`)
  }
  const program = `docker-credential-${helper}`
  // Docker notes in `auths` under which spelling a login went into the store.
  const server =
    lookUp(config.auths, host)?.key ?? (host === DOCKER_HUB ? 'https://index.docker.io/v1/' : host)
  const failed = (why: string, hint?: string) =>
    new ConveyorError('invalid', `${program}, which ${config.file} names for ${host}, ${why}`, {
      hint: hint ?? `Run \`echo ${server} | ${program} get\` to see what is wrong`,
    })

  const { error, stdout } = await run(program, server, timeoutMs)
  if (error) {
    if (stdout.trim() === NOT_FOUND) return null
    if (error.code === 'ENOENT')
      throw failed('is not installed', `Install ${program}, or log in again without it`)
    if (error.killed) throw failed(`gave no answer in ${timeoutMs / 1000} s`)
    throw failed(`failed (exit status ${error.code ?? error.signal ?? 'unknown'})`)
  }
  const answer = parseJson(stdout)
  if (!isRecord(answer) || typeof answer.Username !== 'string' || typeof answer.Secret !== 'string') {
    throw failed('gave an answer that is not {Username, Secret}')
  }
  if (answer.Secret === '') return null
  return { username: answer.Username, password: answer.Secret }
}

interface RunResult {
  error: { code?: string | number | null; signal?: string | null; killed?: boolean } | null
  stdout: string
}

function run(program: string, input: string, timeoutMs: number): Promise<RunResult> {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL' as const, maxBuffer: 1 << 20 }
    const child = execFile(program, ['get'], options, (error, stdout) =>
      resolve({ error: error as RunResult['error'], stdout }),
    )
    // A helper that does not read its input ends in the callback above; the EPIPE says nothing more.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

/** The entry of a host in whatever spelling it has; the host's own spelling goes first. */
function lookUp<T>(map: Record<string, T>, host: string): { key: string; value: T } | null {
  const key = Object.hasOwn(map, host) ? host : Object.keys(map).find((k) => canonicalHost(k) === host)
  const value = key === undefined ? undefined : map[key]
  return key === undefined || value === undefined ? null : { key, value }
}

/** Parses a file once, and again when it was changed; null while there is no such file. */
function cachedByMtime<T>(file: string, parse: (file: string, text: string) => T): () => Promise<T | null> {
  let known: { version: string; value: T } | null = null
  return async () => {
    try {
      const { mtimeNs, size, ino } = await stat(file, { bigint: true })
      const version = `${mtimeNs} ${size} ${ino}`
      if (known?.version !== version) known = { version, value: parse(file, await readFile(file, 'utf8')) }
      return known.value
    } catch (error) {
      if (error instanceof ConveyorError) throw error
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return null
      throw broken(file, `cannot be read (${code ?? 'unknown error'})`)
    }
  }
}

function parseConfig(file: string, text: string): DockerConfig {
  const json = parseObject(file, text)
  const { credsStore } = json
  if (credsStore !== undefined && typeof credsStore !== 'string')
    throw broken(file, 'credsStore is not a string')
  return {
    file,
    auths: mapOf(file, 'auths', json.auths, isAuthEntry) as Record<string, AuthEntry>,
    credHelpers: mapOf(file, 'credHelpers', json.credHelpers, (v) => typeof v === 'string'),
    credsStore: credsStore || undefined,
  }
}

function parseLegacy(file: string, text: string): DockerConfig {
  const auths = mapOf(file, 'the file', parseObject(file, text), isAuthEntry) as Record<string, AuthEntry>
  return { file, auths, credHelpers: {}, credsStore: undefined }
}

function mapOf<T>(
  file: string,
  name: string,
  value: unknown,
  check: (v: unknown) => boolean,
): Record<string, T> {
  if (value === undefined || value === null) return {}
  if (!isRecord(value)) throw broken(file, `${name} is not an object`)
  const bad = Object.keys(value).find((key) => !check(value[key]))
  if (bad !== undefined) throw broken(file, `${name} has an entry for ${bad} that docker would not write`)
  return value as Record<string, T>
}

function parseObject(file: string, text: string): Record<string, unknown> {
  const value = parseJson(text)
  if (!isRecord(value)) throw broken(file, 'is not a JSON object')
  return value
}

/** Undefined for what is not JSON. The parser's own message would quote the text, so it is not passed on. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isAuthEntry(value: unknown): boolean {
  if (!isRecord(value)) return false
  const fields = [value.auth, value.username, value.password, value.identitytoken]
  return fields.every((field) => field === undefined || typeof field === 'string')
}

function broken(file: string, why: string): ConveyorError {
  return new ConveyorError('invalid', `${file}: ${why}`, {
    hint: 'Correct the file, or run `docker login` again',
  })
}
