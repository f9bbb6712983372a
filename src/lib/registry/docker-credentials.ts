import { homedir } from 'node:os'
import { join } from 'node:path'
import { ConveyorError } from '../core/errors.ts'
import { authEntry, IDENTITY_TOKEN_USER } from './auth-config.ts'
import { getFromHelper, listHelper } from './credential-helper.ts'
import { configError, configReader, type DockerConfig, entryFor, legacyReader } from './docker-config.ts'
import { canonicalHost } from './image-name.ts'
import type { CredentialStore, RegistryCredential } from './registry.ts'

export interface DockerCredentialsOptions {
  /** Directory of Docker's `config.json`; `~/.docker` by default. */
  configDir?: string
  /** The file of Docker before 1.7: `~/.dockercfg`, or `.dockercfg` in `configDir` if that is set. */
  legacyFile?: string
  /** Called with every secret before it is returned, so that it can be redacted from logs. */
  onSecret?: (secret: string) => void
  /** Time limit for a credential helper, in milliseconds; 15 s by default. */
  helperTimeoutMs?: number
}

const HELPER_TIMEOUT_MS = 15_000

/** One place to look up the credential of a (canonical) host; null if it has none. */
type Locator = (config: DockerConfig, host: string) => Promise<RegistryCredential | null>

/**
 * The credentials that `docker login` stored. Tries, in this order, the host's credential helper (`credHelpers`),
 * the default one (`credsStore`), `auths`, and the old `.dockercfg`; the first match wins. Files are read again
 * when they change, so a new `docker login` needs no restart.
 *
 * `forHost` throws ConveyorError `invalid` naming the file (never its content) if a file is invalid, or if a helper
 * failed and nothing else matched.
 */
export function dockerCredentials(options: DockerCredentialsOptions = {}): CredentialStore {
  const configDir = options.configDir ?? defaultConfigDir()
  const legacyFile =
    options.legacyFile ?? join(options.configDir === undefined ? homedir() : configDir, '.dockercfg')
  const timeoutMs = options.helperTimeoutMs ?? HELPER_TIMEOUT_MS

  const places: { read: () => Promise<DockerConfig | null>; locators: Locator[] }[] = [
    {
      read: configReader(configFile(configDir)),
      locators: [hostHelper(timeoutMs), defaultHelper(timeoutMs), storedAuth],
    },
    { read: legacyReader(legacyFile), locators: [storedAuth] },
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

function defaultConfigDir(): string {
  return join(homedir(), '.docker')
}

function configFile(configDir: string): string {
  return join(configDir, 'config.json')
}

function hostHelper(timeoutMs: number): Locator {
  return async (config, host) => {
    const helper = entryFor(config.credHelpers, host)
    return helper ? await getFromHelper(config, helper.value, host, timeoutMs) : null
  }
}

function defaultHelper(timeoutMs: number): Locator {
  return async (config, host) =>
    config.credsStore ? await getFromHelper(config, config.credsStore, host, timeoutMs) : null
}

const storedAuth: Locator = async (config, host) => {
  const found = entryFor(config.auths, host)
  if (!found) return null
  const { auth, username, password, identitytoken } = found.value
  if (identitytoken) return { username: IDENTITY_TOKEN_USER, password: identitytoken }
  if (auth) {
    // Old versions of Docker padded the value with NUL bytes.
    const [, user, secret] =
      /^([^:]+):(.*)$/s.exec(Buffer.from(auth, 'base64').toString().replace(/\0+$/, '')) ?? []
    if (user === undefined || !secret) {
      throw configError(config.file, `the auth of ${found.key} is not user:password in base64`)
    }
    return { username: user, password: secret }
  }
  return username && password ? { username, password } : null
}

/** Docker's logins in a form that works without this machine's credential helpers. */
export interface PlainLogins {
  /** A `config.json` with nothing but `auths`, sorted by host. */
  config: string
  /** The hosts it has logins for, as spelled in Docker's own file. */
  hosts: string[]
  /** Logins that could not be copied, each with the reason. */
  unsupported: string[]
  /** The login for a (canonical) host; null if there is none. */
  forHost(host: string): RegistryCredential | null
}

/** Helpers whose passwords expire after minutes or hours, so that a copy would soon be useless. */
const SHORT_LIVED = ['ecr-login', 'gcloud', 'gcr', 'acr-env']

/**
 * The logins of Docker's `config.json`, without the rest of that file, and with those in credential helpers written
 * out.
 * @param configDir Docker's directory; `~/.docker` by default
 * @throws ConveyorError `invalid` if the file is invalid
 */
export async function plainLogins(configDir = defaultConfigDir()): Promise<PlainLogins> {
  const credentials = dockerCredentials({ configDir })
  const { auths = {}, credHelpers = {}, credsStore } = (await configReader(configFile(configDir))()) ?? {}
  const unsupported: string[] = []
  const stored = credsStore ? await storedServers(credsStore, unsupported) : []
  const found = new Map<string, RegistryCredential>()
  for (const host of new Set([...Object.keys(auths), ...Object.keys(credHelpers), ...stored])) {
    const helper = entryFor(credHelpers, canonicalHost(host))?.value ?? credsStore
    if (helper && SHORT_LIVED.includes(helper)) {
      unsupported.push(
        `the login for ${host}, which docker-credential-${helper} issues for a short time only`,
      )
      continue
    }
    try {
      const login = await credentials.forHost(host)
      if (login) found.set(host, login)
    } catch (error) {
      if (!(error instanceof ConveyorError)) throw error
      unsupported.push(`the login for ${host}: ${error.advice}`)
    }
  }
  const logins = [...found].sort(([one], [other]) => (one < other ? -1 : 1))
  const plain = Object.fromEntries(logins.map(([host, login]) => [host, authEntry(login)]))
  return {
    config: `${JSON.stringify({ auths: plain }, null, 2)}\n`,
    hosts: logins.map(([host]) => host),
    unsupported,
    forHost: (host) => logins.find(([name]) => canonicalHost(name) === host)?.[1] ?? null,
  }
}

async function storedServers(helper: string, unsupported: string[]): Promise<string[]> {
  const listing = await listHelper(helper, HELPER_TIMEOUT_MS)
  if ('servers' in listing) return listing.servers
  unsupported.push(`the logins in Docker's credential store: ${listing.failure}`)
  return []
}
