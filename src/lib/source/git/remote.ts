import { ConveyorError } from '../../core/errors.ts'
import { percentDecoded } from '../../util/percent.ts'
import { GitFailure } from './git.ts'
import { sshHosts } from './ssh-hosts.ts'

/**
 * GitHub token (or password of another server): one for all repositories, or looked up for each.
 * @param refused the token that the server has just refused, so that the next one is another
 */
export type RemoteToken =
  | string
  | ((repository: string, signal?: AbortSignal, refused?: string) => Promise<string | undefined>)

export interface RemoteOptions {
  /** URL template with `{repository}`: https://, http://, ssh://, file:// or user@host:path. */
  url: string
  /** For http and https; sent only to the server of the URL. */
  token?: RemoteToken | undefined
  /** Private key file for ssh; by default ssh's own. */
  sshKey?: string | undefined
  /** File with SSH host keys, or `accept-new`; for the default see ssh-hosts.ts. */
  knownHosts?: string | undefined
}

/** The git server. Connect through `withRemote`. */
export interface Remote {
  /** Host name for messages, `github.com`. */
  host: string
  url(repository: string): string
  /** With which token to connect; undefined without one. @throws ConveyorError if it cannot be looked up */
  token(repository: string, signal?: AbortSignal, refused?: string): Promise<string | undefined>
  /** How to connect with a token. */
  connection(token: string | undefined): GitConnection
  /** Must be called before connecting. */
  prepare?: () => Promise<void>
  /** Whether tokens are looked up for each repository. */
  perRepository: boolean
  /** Whether credentials are sent, which may be wrong. */
  authenticated: boolean
}

/** Settings and environment for a git command that connects to a server. */
export interface GitConnection {
  config: [string, string][]
  env: Record<string, string>
  /** For a retry that follows redirects; null if the first attempt does already. */
  redirected: Pick<GitConnection, 'config' | 'env'> | null
  /** Texts to redact. */
  secrets: string[]
  /** The login as a header for the server of the URL; null without one, or for another protocol than http. */
  authorization: string | null
}

/** git's errors for credentials that a server refuses, or requires. */
export const REFUSED = /Authentication failed|could not read (Username|Password)|error: (401|403)/i

const PLACEHOLDER = '{repository}'
/** A transfer below 1000 bytes/s for this long is aborted. */
const STALLED_SECONDS = 30

/**
 * @param dir folder for files of ssh
 * @throws ConveyorError `invalid` if the template is malformed
 */
export function remoteOf(options: RemoteOptions, dir: string): Remote {
  if (!options.url.includes(PLACEHOLDER)) throw badTemplate(options.url)
  return remoteAt(options, dir)
}

/**
 * A single repository, whose URL has no placeholder.
 * @param dir folder for files of ssh
 * @throws ConveyorError `invalid` if the URL is malformed
 */
export function remoteAt({ url: template, token, ...ssh }: RemoteOptions, dir: string): Remote {
  const scheme =
    /^([a-z]+):\/\//.exec(template)?.[1] ?? (/^\w[\w.-]*@[\w.-]+:(?!\/\/)/.test(template) && 'scp')
  if (scheme === 'http' || scheme === 'https') return httpRemote(template, token)
  if (scheme === 'ssh' || scheme === 'scp') return sshRemote(template, ssh, dir)
  if (scheme === 'file') return base(template, 'this machine', { env: { GIT_ALLOW_PROTOCOL: 'file' } })
  throw badTemplate(template)
}

/**
 * Runs git against a server: again if the server responds with a redirect, and with a new token if it refused the one of
 * this repository.
 * @throws what `run` throws, and ConveyorError if there is no token
 */
export async function withRemote<T>(
  remote: Remote,
  repository: string,
  run: (how: Pick<GitConnection, 'config' | 'env' | 'secrets'>) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  await remote.prepare?.()
  const token = await remote.token(repository, signal)
  try {
    return await runWith(remote.connection(token), run)
  } catch (error) {
    if (!remote.perRepository || token === undefined || !isRefusal(error)) throw error
    const next = await remote.token(repository, signal, token)
    if (next === undefined || next === token) throw error
    return await runWith(remote.connection(next), run)
  }
}

async function runWith<T>(
  connection: GitConnection,
  run: (how: Pick<GitConnection, 'config' | 'env' | 'secrets'>) => Promise<T>,
): Promise<T> {
  const { redirected, secrets } = connection
  try {
    return await run(connection)
  } catch (error) {
    if (!redirected || !isRedirect(error)) throw error
    return await run({ ...redirected, secrets }).catch((failure) => {
      if (failure instanceof GitFailure) failure.redirected = true
      throw failure
    })
  }
}

/** Whether the server itself, and not one that it redirects to, has refused the credentials. */
function isRefusal(thrown: unknown): boolean {
  return thrown instanceof GitFailure && !thrown.redirected && REFUSED.test(thrown.stderr)
}

/** git's error for a redirect that it does not follow: https://github.com/git/git/blob/v2.39.0/http.c#L1746 */
function isRedirect(thrown: unknown): boolean {
  return thrown instanceof GitFailure && /^fatal: .*error: 30[12378]$/m.test(thrown.stderr)
}

function base(template: string, host: string, connection: Partial<GitConnection>): Remote {
  return {
    host,
    url: (repository) => template.replaceAll(PLACEHOLDER, repository),
    token: async () => undefined,
    connection: () => ({
      ...{ config: [], env: {}, redirected: null, secrets: [], authorization: null },
      ...connection,
    }),
    perRepository: false,
    authenticated: false,
  }
}

/**
 * Sends credentials in a header for this one server, passed to git in its environment, because argv is public. git
 * and curl would also send the header to the target of a redirect, so redirects are not followed with it. If the
 * server redirects (GitHub does for a renamed repository), the command is repeated with a credential helper instead:
 * git binds such credentials to their origin, and does not send them to another.
 */
function httpRemote(template: string, token: RemoteToken | undefined): Remote {
  const { origin, host, protocol, username, password } = parse(template)
  // Credentials in the URL would be visible in argv.
  const bare = template.replace(/^(https?:\/\/)[^/@]*@/, '$1')
  const config: [string, string][] = [
    ['protocol.version', '2'],
    ['http.lowSpeedLimit', '1000'],
    ['http.lowSpeedTime', String(STALLED_SECONDS)],
  ]
  const env = { GIT_ALLOW_PROTOCOL: protocol === 'http:' ? 'http:https' : 'https' }
  return {
    ...base(bare, host, {}),
    token: async (...about) => (typeof token === 'function' ? token(...about) : token),
    connection(given) {
      const login = loginOf(given, username, password)
      if (!login) return { config, env, redirected: null, secrets: [], authorization: null }
      const basic = Buffer.from(`${login.username}:${login.password}`).toString('base64')
      const authorization = `Basic ${basic}`
      const header: [string, string] = [`http.${origin}/.extraHeader`, `Authorization: ${authorization}`]
      return {
        config: [...config, header, ['http.followRedirects', 'false']],
        env,
        redirected: {
          config: [...config, [`credential.${origin}.helper`, HELPER], ['http.followRedirects', 'true']],
          env: { ...env, CONVEYOR_GIT_USERNAME: login.username, CONVEYOR_GIT_PASSWORD: login.password },
        },
        secrets: [login.password, password, basic].filter((secret) => secret !== ''),
        authorization,
      }
    },
    perRepository: typeof token === 'function',
    authenticated: Boolean(token) || username !== '',
  }
}

/** https://git-scm.com/docs/gitcredentials#_custom_helpers */
const HELPER = '!printf "username=%s\\npassword=%s\\n" "$CONVEYOR_GIT_USERNAME" "$CONVEYOR_GIT_PASSWORD"; :'

function loginOf(token: string | undefined, username: string, password: string) {
  if (token) return { username: 'x-access-token', password: token }
  if (username === '') return null
  return { username: percentDecoded(username), password: percentDecoded(password) }
}

function parse(template: string): URL {
  try {
    return new URL(template.replaceAll(PLACEHOLDER, 'owner/name'))
  } catch {
    throw badTemplate(template)
  }
}

function sshRemote(
  template: string,
  { sshKey, knownHosts }: Pick<RemoteOptions, 'sshKey' | 'knownHosts'>,
  dir: string,
): Remote {
  const host = /^(?:ssh:\/\/)?(?:[^@/]*@)?([^:/]+)/.exec(template)?.[1] ?? 'ssh'
  const hosts = sshHosts(host, { knownHosts, sshKey }, dir)
  const options = [
    'BatchMode=yes',
    ...hosts.options,
    'ConnectTimeout=20',
    'ServerAliveInterval=15',
    'ServerAliveCountMax=3',
    ...(sshKey === undefined ? [] : [`IdentityFile="${sshKey}"`, 'IdentitiesOnly=yes']),
  ]
  return {
    ...base(template, host, {
      config: [['protocol.version', '2']],
      env: {
        GIT_ALLOW_PROTOCOL: 'ssh',
        GIT_SSH_VARIANT: 'ssh',
        // git passes this to a shell, hence the quotes.
        GIT_SSH_COMMAND: ['ssh', ...options.flatMap((option) => ['-o', quote(option)])].join(' '),
      },
    }),
    ...(hosts.prepare && { prepare: hosts.prepare }),
    authenticated: true,
  }
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

function badTemplate(template: string): ConveyorError {
  const shown = template.replace(/\/\/[^/@]*@/, '//[redacted]@')
  return new ConveyorError('invalid', `invalid git URL ${JSON.stringify(shown)}`, {
    hint: 'Use a URL like https://github.com/{repository}.git or git@github.com:{repository}.git',
  })
}
