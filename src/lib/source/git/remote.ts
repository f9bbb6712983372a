import { ConveyorError } from '../../core/errors.ts'
import { percentDecoded } from '../../util/percent.ts'
import { GitFailure } from './git.ts'
import { sshHosts } from './ssh-hosts.ts'

export interface RemoteOptions {
  /** URL template with `{repository}`: https://, http://, ssh://, file:// or user@host:path. */
  url: string
  /** GitHub token (or password of another server) for http and https; sent only to that server. */
  token?: string | undefined
  /** Private key file for ssh; by default ssh's own. */
  sshKey?: string | undefined
  /** File with SSH host keys, or `accept-new`; for the default see ssh-hosts.ts. */
  knownHosts?: string | undefined
}

/** How to connect to the git server: URL, settings and environment for `git fetch`. */
export interface Remote {
  /** Host name for messages, `github.com`. */
  host: string
  url(repository: string): string
  config: [string, string][]
  env: Record<string, string>
  /** For a retry that follows redirects; null if the first attempt does already. */
  redirected: Pick<Remote, 'config' | 'env'> | null
  /** Must be called before connecting. */
  prepare?: () => Promise<void>
  /** Texts to redact. */
  secrets: string[]
  /** Whether credentials are sent, which may be wrong. */
  authenticated: boolean
}

const PLACEHOLDER = '{repository}'
/** A transfer below 1000 bytes/s for this long is aborted. */
const STALLED_SECONDS = 30

/**
 * @param dir folder for files of ssh
 * @throws ConveyorError `invalid` if the template is malformed
 */
export function remoteOf({ url: template, token, ...ssh }: RemoteOptions, dir: string): Remote {
  const scheme =
    /^([a-z]+):\/\//.exec(template)?.[1] ?? (/^\w[\w.-]*@[\w.-]+:(?!\/\/)/.test(template) && 'scp')
  if (!template.includes(PLACEHOLDER) || !scheme) throw badTemplate(template)
  if (scheme === 'http' || scheme === 'https') return httpRemote(template, token)
  if (scheme === 'ssh' || scheme === 'scp') return sshRemote(template, ssh, dir)
  if (scheme === 'file') return { ...base(template, 'this machine'), env: { GIT_ALLOW_PROTOCOL: 'file' } }
  throw badTemplate(template)
}

/** Runs git against a server, and again if the server responds with a redirect. */
export async function withRemote<T>(
  remote: Remote,
  run: (how: Pick<Remote, 'config' | 'env'>) => Promise<T>,
): Promise<T> {
  await remote.prepare?.()
  try {
    return await run(remote)
  } catch (error) {
    if (!remote.redirected || !isRedirect(error)) throw error
    return await run(remote.redirected).catch((failure) => {
      if (failure instanceof GitFailure) failure.redirected = true
      throw failure
    })
  }
}

/** git's error for a redirect that it does not follow: https://github.com/git/git/blob/v2.39.0/http.c#L1746 */
function isRedirect(thrown: unknown): boolean {
  return thrown instanceof GitFailure && /^fatal: .*error: 30[12378]$/m.test(thrown.stderr)
}

function base(template: string, host: string): Remote {
  return {
    host,
    url: (repository) => template.replaceAll(PLACEHOLDER, repository),
    config: [],
    env: {},
    redirected: null,
    secrets: [],
    authenticated: false,
  }
}

/**
 * Sends credentials in a header for this one server, passed to git in its environment, because argv is public. git
 * and curl would also send the header to the target of a redirect, so redirects are not followed with it. If the
 * server redirects (GitHub does for a renamed repository), the command is repeated with a credential helper instead:
 * git binds such credentials to their origin, and does not send them to another.
 */
function httpRemote(template: string, token: string | undefined): Remote {
  const { origin, host, protocol, username, password } = parse(template)
  // Credentials in the URL would be visible in argv.
  const bare = template.replace(/^(https?:\/\/)[^/@]*@/, '$1')
  const login = loginOf(token, username, password)
  const basic = login ? Buffer.from(`${login.username}:${login.password}`).toString('base64') : ''
  const config: [string, string][] = [
    ['protocol.version', '2'],
    ['http.lowSpeedLimit', '1000'],
    ['http.lowSpeedTime', String(STALLED_SECONDS)],
  ]
  const header: [string, string] = [`http.${origin}/.extraHeader`, `Authorization: Basic ${basic}`]
  const env = { GIT_ALLOW_PROTOCOL: protocol === 'http:' ? 'http:https' : 'https' }
  return {
    ...base(bare, host),
    config: login ? [...config, header, ['http.followRedirects', 'false']] : config,
    env,
    redirected: login && {
      config: [...config, [`credential.${origin}.helper`, HELPER], ['http.followRedirects', 'true']],
      env: { ...env, CONVEYOR_GIT_USERNAME: login.username, CONVEYOR_GIT_PASSWORD: login.password },
    },
    secrets: login ? [login.password, password, basic].filter((secret) => secret !== '') : [],
    authenticated: login !== null,
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
    ...base(template, host),
    ...(hosts.prepare && { prepare: hosts.prepare }),
    config: [['protocol.version', '2']],
    env: {
      GIT_ALLOW_PROTOCOL: 'ssh',
      GIT_SSH_VARIANT: 'ssh',
      // git passes this to a shell, hence the quotes.
      GIT_SSH_COMMAND: ['ssh', ...options.flatMap((option) => ['-o', quote(option)])].join(' '),
    },
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
