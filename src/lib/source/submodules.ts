import { createHash } from 'node:crypto'
import { shortName } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { validRepository } from '../core/validate.ts'
import type { Submodule } from './context/context-tree.ts'
import { type Remote, type RemoteOptions, remoteAt } from './git/remote.ts'
import { isAllowed, originOf, ownHosts, type SubmoduleOrigin, submoduleUrl } from './git/submodule-url.ts'
import type { Commit } from './source.ts'

/** A repository and its mirror. */
export interface Mirrored {
  /** Path of the mirror without `.git`; also that of its lock. */
  key: string
  /** Its name for people, and for `remote.url`. */
  repository: string
  remote: Remote
}

interface SubmoduleOptions extends RemoteOptions {
  submoduleHosts?: ((repository: string) => readonly string[]) | undefined
}

/** Folder of the mirrors of submodules that are on other servers; no owner has such a name. */
const ELSEWHERE = '.elsewhere'
/** The same for those of forks. */
const PUBLIC = '.public'

/** Repository names are case-insensitive on GitHub, so a repository has one mirror in any spelling. */
export function mirrorKey(repository: string): string {
  return validRepository(repository).toLowerCase()
}

/**
 * Fetches the commit that a submodule is pinned to.
 * @param root the commit that is built: what is allowed depends on its repository
 * @param own the git server of all repositories
 * @param dir folder for files of ssh
 * @throws ConveyorError that names the path: as `fetch`, or `build_failed` if the URL is malformed or not allowed
 */
export async function fetchSubmodule(
  root: Commit,
  { path, url, sha, parent }: Submodule,
  {
    own,
    dir,
    options,
    anonymous,
  }: { own: Remote; dir: string; options: SubmoduleOptions; anonymous: boolean },
  fetch: (from: Mirrored, sha: string) => Promise<Commit>,
): Promise<Commit> {
  const about = `the submodule ${path} of ${shortName(root)}`
  const absolute = submoduleUrl(parent.url, url)
  const origin = absolute === null ? null : originOf(absolute, options.url)
  if (!origin) {
    throw new ConveyorError('build_failed', `${about} has a URL that cannot be fetched: ${shown(url)}`, {
      hint: 'Use https://, ssh:// or git@HOST:PATH in .gitmodules, or a URL relative to that of the repository',
    })
  }
  const allowed = options.submoduleHosts?.(root.repository) ?? []
  if (!isAllowed(origin, allowed.length > 0 ? allowed : ownHosts(options.url))) {
    const where = `${origin.host}/${origin.path}`
    throw new ConveyorError('build_failed', `${about} is at ${where}, which is not allowed`, {
      hint: 'Allow the host with --git.submodules (GIT_SUBMODULES), or exclude the path in .dockerignore',
    })
  }
  try {
    return await fetch(
      anonymous ? mirroredPublic(origin, dir, options.url) : mirrored(origin, own, dir, options),
      sha,
    )
  } catch (error) {
    if (!(error instanceof ConveyorError) || error.kind === 'cancelled') throw error
    const { kind, hint, retryable, retryAfterMs } = error
    throw new ConveyorError(kind, `${about}: ${error.message}`, {
      ...(hint && { hint }),
      ...{ retryable, retryAfterMs, cause: error },
    })
  }
}

function mirrored(
  { host, path, repository, url, ours }: SubmoduleOrigin,
  own: Remote,
  dir: string,
  { token, sshKey, knownHosts }: SubmoduleOptions,
): Mirrored {
  if (url === null && repository !== null) return { key: mirrorKey(repository), repository, remote: own }
  // A token that depends on the repository needs its name.
  const isKnown = ours && (repository !== null || typeof token === 'string')
  const remote = remoteAt({ url: url ?? '', sshKey, knownHosts, ...(isKnown && { token }) }, dir)
  if (repository !== null) return { key: mirrorKey(repository), repository, remote }
  const id = createHash('sha256').update(`${host}/${path}`).digest('hex').slice(0, 40)
  return { key: `${ELSEWHERE}/${id}`, repository: `${host}/${path}`, remote }
}

/**
 * The same without credentials, and with a mirror of its own, as the others may have what is private.
 * @throws ConveyorError `unauthorized` if there is no such way
 */
function mirroredPublic(
  { host, path, repository, url }: SubmoduleOrigin,
  dir: string,
  template: string,
): Mirrored {
  const name = repository ?? `${host}/${path}`
  const remote = remoteAt({ url: url ?? template }, dir)
  if (remote.authenticated) {
    throw new ConveyorError('unauthorized', `fetching ${name} from ${host} needs credentials`, {
      hint: 'The submodules of forks are fetched without any: use a public https:// URL in .gitmodules',
    })
  }
  const id = createHash('sha256').update(`${host}/${path}`).digest('hex').slice(0, 40)
  return { key: `${PUBLIC}/${id}`, repository: name, remote }
}

/** Without a login, which it may contain. */
function shown(url: string): string {
  return JSON.stringify(url.slice(0, 200).replace(/\/\/[^/@]*@/, '//[redacted]@'))
}
