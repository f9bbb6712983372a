import { ConveyorError } from '../../core/errors.ts'
import { percentDecoded } from '../../util/percent.ts'
import { type Git, GitFailure } from '../git/git.ts'
import type { Remote } from '../git/remote.ts'
import { headersOf, parsed, record, usableUntil } from './answers.ts'
import type { LfsAccess, LfsEndpoint } from './batch.ts'

const LIMIT_MS = 30_000

export interface SshAccessOptions {
  git: Git
  remote: Remote
  repository: string
  /** Where the LFS server is if the git server does not say so. */
  derived: URL
}

/**
 * Asks the git server over SSH where its LFS server is, and for credentials for it. One that cannot say so is expected to
 * have public objects at the derived address.
 * https://github.com/git-lfs/git-lfs/blob/main/docs/api/authentication.md
 */
export function authenticateOverSsh({ git, remote, repository, derived }: SshAccessOptions): LfsAccess {
  let known: { endpoint: LfsEndpoint; until: number } | undefined

  async function ask(signal: AbortSignal): Promise<Record<string, unknown>> {
    const { login, port, path } = partsOf(remote.url(repository))
    const timeout = AbortSignal.timeout(LIMIT_MS)
    const command = `git-lfs-authenticate '${path.replaceAll("'", "'\\''")}' download`
    const args = [...(port === '' ? [] : ['-p', port]), '--', login, command]
    await remote.prepare?.()
    const { env } = remote.connection(undefined)
    try {
      // git, too, passes this variable to a shell.
      const output = await git.run(['-c', `exec ${env.GIT_SSH_COMMAND} "$@"`, 'ssh', ...args], {
        program: 'sh',
        signal: AbortSignal.any([signal, timeout]),
      })
      return record(parsed(output))
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof GitFailure) return {}
      if (!timeout.aborted) throw error
      throw new ConveyorError(
        'unavailable',
        `${remote.host} did not answer git-lfs-authenticate for ${repository}`,
      )
    }
  }

  return async (signal, refused) => {
    if (known && known.until > Date.now() && known.endpoint !== refused) return known.endpoint
    const answer = await ask(signal)
    const named = typeof answer.href === 'string' ? URL.parse(answer.href) : null
    // Also without TLS, as git-lfs: the git server itself says so.
    const url = named && /^https?:$/.test(named.protocol) ? named : derived
    known = { endpoint: { url, headers: headersOf(answer.header) }, until: usableUntil(answer) }
    return known.endpoint
  }
}

/** Of `ssh://user@host:port/path` or `user@host:path`, as git-lfs passes them to ssh. */
function partsOf(address: string): { login: string; port: string; path: string } {
  const url = URL.parse(address)
  if (url?.protocol === 'ssh:') {
    const user = url.username === '' ? '' : `${percentDecoded(url.username)}@`
    return { login: `${user}${url.hostname}`, port: url.port, path: url.pathname.replace(/^\/+/, '') }
  }
  const colon = address.indexOf(':')
  return { login: address.slice(0, colon), port: '', path: address.slice(colon + 1).replace(/^\/+/, '') }
}
