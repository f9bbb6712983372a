import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ConveyorError } from '../core/errors.ts'
import { dockerConfigCredentials } from './docker-config.ts'
import { isIdentityToken } from './identity-token.ts'
import { canonicalHost } from './image-name.ts'
import type { RegistryCredential } from './registry.ts'

/** Docker's logins as they work where none of this machine's programs are. */
export interface PlainLogins {
  /** A `config.json` with `auths` alone, by host in its order. */
  config: string
  /** Hosts that it has logins for, as docker's own file names them. */
  hosts: string[]
  /** What could not be carried over, each with the reason. */
  unsupported: string[]
  /** The login for a (canonical) host; null when there is none. */
  forHost(host: string): RegistryCredential | null
}

/** Helpers whose passwords end after minutes or hours: a copy is soon worth nothing. */
const SHORT_LIVED = ['ecr-login', 'gcloud', 'gcr', 'acr-env']

/**
 * The logins of docker's `config.json` without the rest of that file, and with those that are in credential
 * helpers written out.
 * @param configDir docker's folder; `~/.docker` by default
 * @throws ConveyorError `invalid` when the file is broken
 */
export async function plainLogins(configDir = join(homedir(), '.docker')): Promise<PlainLogins> {
  const credentials = dockerConfigCredentials({ configDir })
  const { auths = {}, credHelpers = {}, credsStore } = await read(join(configDir, 'config.json'))
  const unsupported: string[] = []
  const stored = credsStore ? await storedHosts(credsStore, unsupported) : []
  const found = new Map<string, RegistryCredential>()
  for (const host of new Set([...Object.keys(auths), ...Object.keys(credHelpers), ...stored])) {
    const helper = helperFor(host, credHelpers) ?? credsStore
    if (helper && SHORT_LIVED.includes(helper)) {
      unsupported.push(`the login for ${host} is made by docker-credential-${helper} and ends soon`)
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

function helperFor(host: string, helpers: Record<string, string>): string | undefined {
  return Object.entries(helpers).find(([name]) => canonicalHost(name) === canonicalHost(host))?.[1]
}

function authEntry(login: RegistryCredential): object {
  const { username, password } = login
  if (isIdentityToken(login)) return { identitytoken: password }
  return { auth: Buffer.from(`${username}:${password}`).toString('base64') }
}

interface LoginsFile {
  auths?: Record<string, object>
  credHelpers?: Record<string, string>
  credsStore?: string
}

async function read(file: string): Promise<LoginsFile> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as LoginsFile
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    // The message of a parser would quote what is in the file.
    const why = error instanceof SyntaxError ? 'is not JSON' : `cannot be read: ${(error as Error).message}`
    throw new ConveyorError('invalid', `${file} ${why}`, {
      hint: 'Correct the file, or run `docker login` again',
    })
  }
}

/** What the helper of all hosts has logins for: `docker-credential-NAME list`, JSON from server to user. */
async function storedHosts(helper: string, unsupported: string[]): Promise<string[]> {
  const program = `docker-credential-${helper}`
  try {
    const listing = promisify(execFile)(program, ['list'], { timeout: 15_000 })
    // A helper that does not read its input ends as it likes; the EPIPE says nothing more.
    listing.child.stdin?.on('error', () => {}).end()
    const { stdout } = await listing
    return Object.keys(JSON.parse(stdout) as Record<string, string>)
  } catch (error) {
    const { code } = error as { code?: unknown }
    const why = code === 'ENOENT' ? 'is not installed' : 'does not list its logins'
    unsupported.push(`${program}, in which docker keeps its logins, ${why}`)
    return []
  }
}
