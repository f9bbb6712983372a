import { ConveyorError } from '../../core/errors.ts'
import { percentDecoded } from '../../util/percent.ts'
import { GitFailure } from './git.ts'
import { sshHosts } from './ssh-hosts.ts'

export interface RemoteOptions {
  /** Address of any repository, with `{repository}` in it: https://, http://, ssh://, file:// or user@host:path. */
  url: string
  /** GitHub token (or another server's password) for http and https; sent to that one server only. */
  token?: string | undefined
  /** Private key file for ssh; ssh's own choice otherwise. */
  sshKey?: string | undefined
  /** File with the keys of ssh servers, or `accept-new`; else see ssh-hosts.ts. */
  knownHosts?: string | undefined
}

/** How to reach the git server: everything that a `git fetch` needs besides what to fetch. */
export interface Remote {
  /** Host for people, `github.com`. */
  host: string
  url(repository: string): string
  config: [string, string][]
  env: Record<string, string>
  /** How to reach it where it answers with a redirect; null where that is no question. */
  redirected: Pick<Remote, 'config' | 'env'> | null
  /** To be done before it is asked. */
  prepare?: () => Promise<void>
  /** What must never be shown. */
  secrets: string[]
  /** Whether credentials are sent that could be wrong. */
  authenticated: boolean
}

const PLACEHOLDER = '{repository}'
/** A server that sends less than 1000 bytes/s for this long is given up. */
const STALLED_SECONDS = 30

/**
 * @param dir where files for ssh are kept.
 * @throws ConveyorError `invalid` when the template cannot be used.
 */
export function remoteOf({ url: template, token, ...ssh }: RemoteOptions, dir: string): Remote {
  const form = /^([a-z]+):\/\//.exec(template)?.[1] ?? (/^\w[\w.-]*@[\w.-]+:(?!\/\/)/.test(template) && 'scp')
  if (!template.includes(PLACEHOLDER) || !form) throw badTemplate(template)
  if (form === 'http' || form === 'https') return httpRemote(template, token)
  if (form === 'ssh' || form === 'scp') return sshRemote(template, ssh, dir)
  if (form === 'file') return { ...base(template, 'this machine'), env: { GIT_ALLOW_PROTOCOL: 'file' } }
  throw badTemplate(template)
}

/** Runs git against a server, twice where it answers with a redirect. */
export async function askRemote<T>(
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

/** What git says of a redirect that it is not to follow: https://github.com/git/git/blob/v2.39.0/http.c#L1746 */
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
 * The credentials become a header for this one server, given to git in its environment: argv is public. git and
 * curl would send a header of ours wherever a redirect leads, so none is followed with it. A server that answers
 * with one (GitHub does for a renamed repository) is asked again, now with the credentials only when it asks for
 * them: git binds such credentials to the origin that they are for, and drops them on the way to another.
 */
function httpRemote(template: string, token: string | undefined): Remote {
  const { origin, host, protocol, username, password } = parse(template)
  // Credentials in the address would end in argv.
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
      // git gives this line to a shell, hence the quotes.
      GIT_SSH_COMMAND: ['ssh', ...options.flatMap((option) => ['-o', quote(option)])].join(' '),
    },
    authenticated: true,
  }
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

function badTemplate(template: string): ConveyorError {
  const shown = template.replace(/\/\/[^/@]*@/, '//[redacted]@')
  return new ConveyorError('invalid', `git URL ${JSON.stringify(shown)} cannot be used`, {
    hint: 'Give one like https://github.com/{repository}.git or git@github.com:{repository}.git',
  })
}
