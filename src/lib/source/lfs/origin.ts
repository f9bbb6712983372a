import { fileURLToPath } from 'node:url'
import { ConveyorError } from '../../core/errors.ts'
import type { Git } from '../git/git.ts'
import type { Remote } from '../git/remote.ts'
import type { LfsEndpoint } from './batch.ts'
import { endpointOf, isOverSsh, withoutSlashes } from './endpoint.ts'
import { isAsSecure } from './http.ts'
import type { LfsOrigin } from './lfs.ts'
import { authenticateOverSsh } from './ssh.ts'

export interface LfsOriginOptions {
  git: Git
  remote: Remote
  repository: string
  /** `acme/app@0123456`, for errors. */
  name: string
  /** Address of the LFS server in the tree's `.lfsconfig`; null for the one of the repository. */
  configured: string | null
  /** Servers that an `.lfsconfig` may name, `host` or `host:port`. */
  hosts: readonly string[]
}

/**
 * Where the LFS objects of a repository are, and with which credentials. Those for the git server are for the LFS server
 * of the same repository only: an `.lfsconfig` may name that of another one.
 * @throws ConveyorError `build_failed` if the server is not allowed
 */
export function lfsOrigin(options: LfsOriginOptions): LfsOrigin {
  const { git, remote, repository, configured } = options
  const address = remote.url(repository)
  const own = endpointOf(address)
  if (configured !== null) {
    const url = allowedUrl(options, configured, own)
    if (own === null || placeOf(url) !== placeOf(own)) {
      const endpoint = { url, headers: {} }
      return { host: url.host, access: async () => endpoint }
    }
  }
  if (own === null) return { folder: fileURLToPath(address) }
  if (!/^https?:/.test(address)) {
    return { host: own.host, access: authenticateOverSsh({ git, remote, repository, derived: own }) }
  }
  return { host: own.host, access: withToken(remote, repository, own) }
}

function withToken(remote: Remote, repository: string, url: URL) {
  const tokens = new WeakMap<LfsEndpoint, string>()
  return async (signal: AbortSignal, refused?: LfsEndpoint): Promise<LfsEndpoint> => {
    const token = await remote.token(repository, signal, refused && tokens.get(refused))
    const { authorization } = remote.connection(token)
    const endpoint: LfsEndpoint = { url, headers: authorization === null ? {} : { authorization } }
    if (token !== undefined) tokens.set(endpoint, token)
    return endpoint
  }
}

/** Addresses of one LFS server, as people write them, are the same. */
function placeOf({ origin, pathname }: URL): string {
  const path = withoutSlashes(pathname.toLowerCase())
  return origin + path.replace(/(\.git)?\/info\/lfs$/, '')
}

/** Where an address of `lfs.url` is asked; null if it is not used. That of ssh is taken for a repository's, like a remote's. */
function webAddress(text: string): URL | null {
  const url = URL.parse(text)
  if (isOverSsh(text)) return url?.password ? null : endpointOf(text)
  return url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' ? url : null
}

function allowedUrl({ name, hosts }: LfsOriginOptions, text: string, own: URL | null): URL {
  const url = webAddress(text)
  const shown = JSON.stringify(text.slice(0, 200).replace(/\/\/[^/@]*@/, '//[redacted]@'))
  if (!url) {
    throw new ConveyorError(
      'build_failed',
      `.lfsconfig in ${name} names a server that is not used: ${shown}`,
      {
        hint: 'Use an https:// URL without a login',
      },
    )
  }
  const allowed = [own?.host, ...hosts].some((one) => one?.toLowerCase() === url.host)
  if (!allowed) {
    throw new ConveyorError('build_failed', `.lfsconfig in ${name} names ${url.host}, which is not allowed`, {
      hint: 'Allow it with --lfs.hosts (LFS_HOSTS), or remove lfs.url',
    })
  }
  if (own && !isAsSecure(url, own)) {
    throw new ConveyorError('build_failed', `.lfsconfig in ${name} names a server without TLS: ${shown}`, {
      hint: 'Use https://',
    })
  }
  return url
}
