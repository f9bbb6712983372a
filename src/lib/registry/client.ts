import { createHash } from 'node:crypto'
import type { Dispatcher } from 'undici'
import { ConveyorError } from '../core/errors.ts'
import { guardedConnector, rewritingConnector } from '../net/addresses.ts'
import { isLoopback } from '../net/loopback.ts'
import { NO_PROXIES, type Proxies } from '../net/proxies.ts'
import { type Connections, connections } from '../net/proxy-dispatcher.ts'
import { type Access, type Grant, parseChallenges, registryAuth } from './auth.ts'
import { type HttpRequest, type HttpResponse, registryResponse, sender } from './http.ts'
import { type ImageReference, isTagOrDigest, parseReference } from './image-name.ts'
import { jsonOf, LARGEST_MANIFEST } from './json.ts'
import type { CredentialStore, Manifest, Registry } from './registry.ts'
import {
  immutableTagError,
  isImmutableTag,
  isTransient,
  loginHint,
  mayBeImmutableTag,
  responseError,
} from './response.ts'

export interface RegistryClientOptions {
  credentials: CredentialStore
  /** Hosts (with port) without TLS. Loopback addresses, 127.0.0.0/8 and ::1, need not be listed. */
  insecureHosts?: Iterable<string>
  /** Whether a registry, by its name in image references, and its token server may have loopback addresses; none by default. */
  mayBeLocal?: (host: string) => boolean
  /** Addresses for registry names that should not be resolved here: from `host:port` to `host:port`. */
  addresses?: ReadonlyMap<string, string>
  /** Replaces the client's own connections; closed by the caller. */
  dispatcher?: Dispatcher
  /** Proxies of the client's own connections; none by default. */
  proxies?: Proxies
  /** Delays before retries after transient failures, in milliseconds. */
  backoffMs?: readonly number[]
  /** How long a request may take at most, in milliseconds. */
  requestMs?: number
}

/** A Registry with open connections. Idle ones do not keep the process alive; `close` ends them at once. */
export interface RegistryClient extends Registry {
  /** Checks that a registry responds, and whether it accepts our login. @param host `ghcr.io`, as in `--registry` */
  ping(host: string, signal?: AbortSignal): Promise<PingResult>
  close(): Promise<void>
}

/** A registry's response to a request for no repository. */
export interface PingResult {
  /** Whether the connection uses TLS. */
  secure: boolean
  /** Whether it requires authentication at all, if only an anonymous token. */
  asks: boolean
  /** Username of the login that it accepted; null for none. */
  login: string | null
}

/** What requests for manifests do, and what they need. */
const METHODS = {
  GET: { verb: 'reading', actions: 'pull' },
  HEAD: { verb: 'reading', actions: 'pull' },
  POST: { verb: 'pushing', actions: 'pull,push' },
  PUT: { verb: 'tagging', actions: 'pull,push' },
  DELETE: { verb: 'removing', actions: 'pull,push,delete' },
} as const

/** Time limit for connecting. */
const CONNECT_MS = 10_000
/** Manifests and tokens are small. */
const REQUEST_MS = 60_000

const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]

/**
 * A client of the distribution protocol, for any registry: https://github.com/opencontainers/distribution-spec
 *
 * Every method throws ConveyorError: `invalid` for an invalid name or reference, `unauthorized` with a hint,
 * `not_found`, and `unavailable` if the registry still fails after three retries, or (not retryable) rejects the
 * request.
 */
export function registryClient(options: RegistryClientOptions): RegistryClient {
  const insecure = new Set(options.insecureHosts)
  const { mayBeLocal = () => false, dispatcher } = options
  // Separate connections, as one may connect to loopback addresses and the other may not.
  const own = agentOf(true, options)
  const others = agentOf(false, options)
  const send = sender({
    dispatcher: (local) => dispatcher ?? (local ? own : others).dispatcher,
    backoffMs: options.backoffMs ?? [200, 600, 1800],
    requestMs: options.requestMs ?? REQUEST_MS,
  })
  const auth = registryAuth(options.credentials, send)

  /** One request for a manifest. */
  async function call(
    target: ImageReference,
    request: Pick<HttpRequest, 'method' | 'headers' | 'body' | 'signal'>,
  ): Promise<HttpResponse> {
    const { path } = target
    const { verb, actions } = METHODS[request.method]
    const about = { purpose: `${verb} ${target}`, scope: `repository:${path}:${actions}` }
    return (await authenticated(target, `${path}/manifests/${target.identifier}`, about, request)).answer
  }

  /** One request, with the login that the registry requires. */
  async function authenticated(
    { host, apiHost }: Pick<ImageReference, 'host' | 'apiHost'>,
    path: string,
    about: Pick<Access, 'purpose' | 'scope'>,
    request: Pick<HttpRequest, 'method' | 'headers' | 'body' | 'signal'>,
  ): Promise<{ answer: HttpResponse; grant: Grant | null }> {
    const secure = isSecure(host, apiHost)
    const url = new URL(`${secure ? 'https' : 'http'}://${apiHost}/v2/${path}`)
    const { purpose } = about
    const local = mayBeLocal(host)
    const access: Access = { ...about, host, secure, local }

    let grant = auth.known(access)
    for (let renewed = false; ; renewed = true) {
      const headers = grant ? { ...request.headers, authorization: grant.authorization } : request.headers
      const answer = await send({ ...request, url, headers, peer: `registry ${host}`, purpose, local })
      if (answer.status !== 401) return { answer, grant }
      if (!renewed && answer.sameOrigin) {
        const challenges = parseChallenges(answer.header('www-authenticate'))
        const next = await auth.answer(access, challenges, grant, request.signal)
        if (next) {
          grant = next
          continue
        }
      }
      auth.drop(access)
      const what = grant?.username
        ? `rejected the login of ${grant.username}`
        : 'requires a login, but none is configured'
      throw new ConveyorError('unauthorized', `registry ${host} ${what} while ${purpose}`, {
        hint: loginHint(host),
      })
    }
  }

  function isSecure(host: string, apiHost: string): boolean {
    return !insecure.has(host) && !isLoopback(apiHost)
  }

  async function manifest(imageName: string, reference: string, signal?: AbortSignal): Promise<Manifest> {
    const target = manifestReference(imageName, reference)
    const headers = { accept: MANIFEST_TYPES.join(', ') }
    const answer = await call(target, { method: 'GET', headers, signal })
    if (answer.status !== 200) throw refused(target, answer, 'reading')
    const digest = `sha256:${createHash('sha256').update(answer.body).digest('hex')}`
    const expected = isDigest(reference) ? reference : (answer.header('docker-content-digest') ?? digest)
    if (digest !== expected) {
      throw new ConveyorError(
        'unavailable',
        `registry ${target.host} sent a manifest for ${target} with the digest ${digest}, not ${expected}`,
        { hint: 'Check the storage of the registry, and any proxy in front of it' },
      )
    }
    return { digest, mediaType: mediaTypeOf(answer), bytes: answer.body }
  }

  async function digestByGet(imageName: string, reference: string, signal?: AbortSignal) {
    try {
      return (await manifest(imageName, reference, signal)).digest
    } catch (error) {
      if (error instanceof ConveyorError && error.kind === 'not_found') return null
      throw error
    }
  }

  async function head(imageName: string, reference: string, signal?: AbortSignal): Promise<string | null> {
    const target = manifestReference(imageName, reference)
    const headers = { accept: MANIFEST_TYPES.join(', ') }
    const answer = await call(target, { method: 'HEAD', headers, signal })
    if (answer.status === 404) return null
    // Some proxies block HEAD requests.
    if (answer.status === 405 || answer.status === 501) return digestByGet(imageName, reference, signal)
    if (answer.status !== 200) throw refused(target, answer, 'reading')
    const digest = answer.header('docker-content-digest')
    // The header is a SHOULD in the spec; the digest of the content is just as good.
    return digest !== undefined && isDigest(digest)
      ? digest
      : (await manifest(imageName, reference, signal)).digest
  }

  return {
    manifest,
    head,

    async putManifest(imageName, tag, { bytes, mediaType, digest }, signal) {
      const target = manifestReference(imageName, tag)
      const answer = await call(target, {
        method: 'PUT',
        headers: { 'content-type': mediaType },
        body: bytes,
        signal,
      })
      if (answer.status < 200 || answer.status > 299) {
        const said = registryResponse(answer)
        const there = mayBeImmutableTag(said) ? await head(imageName, tag, signal).catch(notReadable) : null
        // The tag is immutable, but already correct.
        if (there === digest) return
        if (there !== null && isImmutableTag(said)) throw immutableTagError(`tagging ${target}`, said)
        throw refused(target, answer, 'tagging')
      }
      const stored = answer.header('docker-content-digest') ?? digest
      if (stored !== digest) {
        throw new ConveyorError(
          'unavailable',
          `registry ${target.host} stored ${target} as ${stored}, not as ${digest}`,
        )
      }
    },

    async deleteTag(imageName, tag, signal) {
      const target = manifestReference(imageName, tag)
      if (isDigest(tag)) throw new ConveyorError('invalid', `${tag} is a digest, not a tag`)
      try {
        const answer = await call(target, { method: 'DELETE', headers: {}, signal })
        const { status } = answer
        if (status === 429 || (status >= 500 && status !== 501))
          throw responseError(
            registryResponse(answer),
            { image: `${target}`, action: 'tag' },
            `removing ${target}`,
          )
        // Some registries accept only digests, which would remove all tags of the image, and answer in many ways.
        return (
          answer.status === 202 || answer.status === 200 || answer.status === 204 || answer.status === 404
        )
      } catch (error) {
        if (error instanceof ConveyorError && error.kind === 'unauthorized') return false
        throw error
      }
    },

    async ping(host, signal) {
      const { apiHost } = parseReference(`${host}/any`)
      // A token without a scope tests the login without naming a repository.
      const about = { purpose: 'logging in', scope: '' }
      const { answer, grant } = await authenticated({ host, apiHost }, '', about, {
        method: 'GET',
        headers: {},
        signal,
      })
      const said = registryResponse(answer)
      if (isTransient(said)) {
        throw responseError(said, { image: `${host}/any`, action: 'pull' }, `querying ${host}`)
      }
      if (answer.status !== 200) {
        throw new ConveyorError('invalid', `${host} answered HTTP ${answer.status}; is this a registry?`, {
          hint: 'Check --registry (REGISTRY): host[:port][/prefix]',
        })
      }
      const login = grant?.username ?? null
      return { secure: isSecure(host, apiHost), asks: grant !== null, login }
    },

    async close() {
      await Promise.all([own.destroy(), others.destroy()])
    },
  }
}

/** Connections to registries. @param local whether they may have loopback addresses */
function agentOf(
  local: boolean,
  { addresses, proxies = NO_PROXIES }: Pick<RegistryClientOptions, 'addresses' | 'proxies'>,
): Connections {
  // Configured addresses are connected to directly, without a proxy.
  const no = [proxies.no, ...(addresses?.keys() ?? [])].join(',')
  return connections(
    { ...proxies, no },
    {
      connect: rewritingConnector(addresses, guardedConnector(local, CONNECT_MS), CONNECT_MS),
      headersTimeout: 30_000,
      bodyTimeout: 30_000,
      keepAliveTimeout: 30_000,
      keepAliveMaxTimeout: 60_000,
      connections: 16,
      // Dockerfiles may name any number of hosts.
      maxOrigins: 256,
    },
  )
}

/** If the tag cannot be read, the error of the original request counts. */
function notReadable(error: unknown): null {
  if (error instanceof ConveyorError) return null
  throw error
}

/** @throws ConveyorError `invalid` */
function manifestReference(imageName: string, tagOrDigest: string): ImageReference {
  const image = parseReference(imageName)
  if (image.tag !== null || image.digest !== null || !isTagOrDigest(tagOrDigest)) {
    throw new ConveyorError(
      'invalid',
      `${JSON.stringify(tagOrDigest)} is not a tag or digest of the image ${JSON.stringify(imageName)}`,
    )
  }
  return image.withIdentifier(tagOrDigest)
}

function isDigest(reference: string): boolean {
  return reference.includes(':') && isTagOrDigest(reference)
}

/** Some servers send no useful Content-Type; the manifest itself may have its media type. */
function mediaTypeOf(answer: HttpResponse): string {
  const said = answer.header('content-type')?.replace(/\s*;.*$/s, '')
  if (said !== undefined && MANIFEST_TYPES.includes(said)) return said
  const manifest = jsonOf(answer.body, LARGEST_MANIFEST) as { mediaType?: unknown } | null | undefined
  const own = MANIFEST_TYPES.find((type) => type === manifest?.mediaType)
  return own ?? said ?? 'application/octet-stream'
}

function refused(target: ImageReference, answer: HttpResponse, verb: 'reading' | 'tagging'): ConveyorError {
  const asked = { image: `${target}`, action: verb === 'tagging' ? 'tag' : 'pull' } as const
  return responseError(registryResponse(answer), asked, `${verb} ${target}`)
}
