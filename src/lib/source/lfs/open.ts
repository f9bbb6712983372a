import { isLoopback } from '../../net/loopback.ts'
import { NO_PROXIES, type Proxies } from '../../net/proxies.ts'
import type { Git } from '../git/git.ts'
import type { Remote } from '../git/remote.ts'
import type { Commit } from '../source.ts'
import { LfsCache } from './cache.ts'
import { endpointOf } from './endpoint.ts'
import { certificates, lfsHttp } from './http.ts'
import { Lfs, type LfsReader } from './lfs.ts'
import { lfsOrigin } from './origin.ts'
import type { LfsObject } from './pointer.ts'

export interface GitLfsOptions {
  /** Folder of the cache; created when needed. */
  dir: string
  /** Limit of the cache, in bytes. Default 10 GB. */
  cacheBytes?: number | undefined
  /** Servers that an `.lfsconfig` may name besides the git server, `host` or `host:port`. */
  hosts?: readonly string[] | undefined
  proxies?: Proxies | undefined
  /** Waits before retries, in milliseconds. */
  backoffMs?: readonly number[] | undefined
}

/** What is asked of an LFS server: objects of a commit. */
export interface LfsRequested {
  /** `acme/app@0123456`, for errors. */
  name: string
  commit: Commit
  /** The git server of the commit. */
  remote: Remote
  objects: LfsObject[]
  /** Address of the LFS server, as `.lfsconfig` says; null for the one of the repository. */
  configured: string | null
  /** Receives a line when the first object is downloaded. */
  log: ((line: string) => void) | undefined
}

/** Files in Git LFS, of all repositories. */
export interface GitLfs {
  /** Connects to nothing yet. @throws ConveyorError `build_failed` if the server is not allowed */
  open(requested: LfsRequested): LfsReader
  close(): Promise<void>
}

const CACHE_BYTES = 10e9

/**
 * @param environment with git's GIT_SSL_CAINFO, which git-lfs reads, too
 * @param template of `--git.url`
 */
export function gitLfs(
  { dir, cacheBytes = CACHE_BYTES, hosts = [], proxies = NO_PROXIES, backoffMs }: GitLfsOptions,
  {
    git,
    environment,
    template,
  }: { git: Git; environment: Record<string, string | undefined>; template: string },
): GitLfs {
  let opened: Lfs | undefined
  const allowed = hosts.map((host) => host.toLowerCase())
  const own = endpointOf(template.replaceAll('{repository}', 'owner/name'))

  /** As a server of the operator's own choice may be this machine; so may then what it refers to. */
  function mayBeLocal({ host }: URL): boolean {
    return allowed.includes(host) || host === own?.host || (own !== null && isLoopback(own.host))
  }

  function open({ name, commit, remote, objects, configured, log }: LfsRequested): LfsReader {
    const { repository } = commit
    const origin = lfsOrigin({ git, remote, repository, name, configured, hosts: allowed })
    opened ??= new Lfs({
      cache: new LfsCache(dir, cacheBytes),
      http: lfsHttp({ proxies, ca: certificates(environment.GIT_SSL_CAINFO), mayBeLocal }),
      backoffMs,
    })
    // What credentials were needed for is not for those who come without.
    const cached = `${remote.authenticated ? '' : 'public '}${remote.url(repository)}`
    return opened.open({ name, remote: cached, origin, objects, log })
  }

  return { open, close: async () => opened?.close() }
}
