import { createHash } from 'node:crypto'
import { shortName } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { repositoryKey } from '../core/repository-key.ts'
import { validRepository } from '../core/validate.ts'
import type { Submodule } from './context/context-tree.ts'
import { type Remote, type RemoteOptions, remoteAt } from './git/remote.ts'
import { accessTo, originOf, type SubmoduleOrigin, submoduleUrl } from './git/submodule-url.ts'
import type { LfsReader } from './lfs/lfs.ts'
import type { Commit } from './source.ts'

/** A repository and its mirror. */
export interface Mirrored {
  /** Path of the mirror without `.git`; also that of its lock. */
  key: string
  /** Its name for people, and for `remote.url`. */
  repository: string
  remote: Remote
  /** It is fetched without credentials; what to do if they are needed. */
  publicHint?: string
}

interface SubmoduleOptions extends RemoteOptions {
  submoduleHosts?: ((repository: string) => readonly string[]) | undefined
}

/** Folder of the mirrors of submodules that are on other servers; no owner has such a name. */
const ELSEWHERE = '.elsewhere'
/** The same for those that are fetched without credentials. */
const PUBLIC = '.public'

/** Repository names are case-insensitive on GitHub, so a repository has one mirror in any spelling. */
export function mirrorKey(repository: string): string {
  return repositoryKey(validRepository(repository))
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
  const access = accessTo(origin, { repository: root.repository, template: options.url, allowed })
  const where = `${origin.host}/${origin.repository ?? origin.path}`
  if (access === 'none') {
    throw new ConveyorError('build_failed', `${about} is at ${where}, which is not allowed`, {
      hint: `Allow it with ${OPTION} ${where}, its owner, or its host, or exclude the path in .dockerignore`,
    })
  }
  const hint = anonymous
    ? 'The submodules of forks are fetched without credentials: use a public https:// URL in .gitmodules'
    : `The credentials are only for submodules of the same owner. If ${root.repository} may read it: ${OPTION} ${root.repository}:${where}`
  const from =
    access === 'credentials' && !anonymous
      ? mirrored(origin, own, dir, options)
      : mirroredPublic(origin, dir, hint)
  try {
    return await fetch(from, sha)
  } catch (error) {
    const hinted = withHint(error, from)
    if (!(hinted instanceof ConveyorError) || hinted.kind === 'cancelled') throw error
    const { kind, hint, retryable, retryAfterMs } = hinted
    throw new ConveyorError(kind, `${about}: ${hinted.message}`, {
      ...(hint && { hint }),
      ...{ retryable, retryAfterMs, cause: error },
    })
  }
}

const OPTION = '--git.submodules'

/** The error, with what to do about it where there were no credentials. */
function withHint(error: unknown, { publicHint }: Pick<Mirrored, 'publicHint'>): unknown {
  if (publicHint === undefined || !(error instanceof ConveyorError) || error.kind !== 'unauthorized')
    return error
  const { kind, message, retryable } = error
  return new ConveyorError(kind, message, { hint: publicHint, retryable, cause: error })
}

/** What reads objects of Git LFS: its errors say what to do about it where there were no credentials. */
export function lfsReader(reader: LfsReader, from: Mirrored | undefined): LfsReader {
  if (from?.publicHint === undefined) return reader
  return {
    async *read(...about) {
      try {
        yield* reader.read(...about)
      } catch (error) {
        throw withHint(error, from)
      }
    },
    close: () => reader.close(),
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
 * @param hint for an error about missing credentials
 * @throws ConveyorError `unauthorized` if there is no such way
 */
function mirroredPublic(
  { host, path, repository, publicUrl }: SubmoduleOrigin,
  dir: string,
  hint: string,
): Mirrored {
  const name = repository ?? `${host}/${path}`
  if (publicUrl === null) {
    throw new ConveyorError('unauthorized', `fetching ${name} from ${host} needs credentials`, { hint })
  }
  const remote = remoteAt({ url: publicUrl }, dir)
  const id = createHash('sha256').update(`${host}/${path}`).digest('hex').slice(0, 40)
  return { key: `${PUBLIC}/${id}`, repository: name, remote, publicHint: hint }
}

/** Without a login, which it may contain. */
function shown(url: string): string {
  return JSON.stringify(url.slice(0, 200).replace(/\/\/[^/@]*@/, '//[redacted]@'))
}
