import { createHash } from 'node:crypto'
import type { Dispatcher } from 'undici'
import { ConveyorError } from '../core/errors.ts'
import { isLoopback } from '../net/loopback.ts'
import { NO_PROXIES, type Proxies } from '../net/proxies.ts'
import { type Connections, connections } from '../net/proxy-dispatcher.ts'
import { guardedConnector, rewritingConnector } from './addresses.ts'
import { type Access, type Grant, parseChallenges, registryAuth } from './auth.ts'
import { type HttpRequest, type HttpResponse, registryResponse, sender } from './http.ts'
import { type ImageReference, isTagOrDigest, parseReference } from './image-name.ts'
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
  /** Hosts (with port) that have no TLS. Those of this machine, 127.0.0.0/8 and ::1, never need to be named. */
  insecureHosts?: Iterable<string>
  /** Whether a registry, as images name it, may be on this machine, with its token server; none is by default. */
  mayBeLocal?: (host: string) => boolean
  /** Where registries are reached whose names lead elsewhere here: both as `host:port`. */
  addresses?: ReadonlyMap<string, string>
  /** Connections to use instead of the client's own; the caller closes it. */
  dispatcher?: Dispatcher
  /** That the client's own connections go through; none by default. */
  proxies?: Proxies
  /** Waits before each further try after a failure that may pass, in milliseconds. */
  backoffMs?: readonly number[]
}

/** A Registry that holds connections. Idle ones do not keep the process alive; `close` ends them at once. */
export interface RegistryClient extends Registry {
  /** Asks whether a registry is there, and whom it takes us for. @param host `ghcr.io`, as `--registry` gives it */
  ping(host: string, signal?: AbortSignal): Promise<PingResult>
  close(): Promise<void>
}

/** What a registry answers, before anything is asked of it. */
export interface PingResult {
  /** Whether it is spoken to over TLS. */
  secure: boolean
  /** Whether it asks for a login at all. */
  asks: boolean
  /** User name of the login that it took; null for none. */
  login: string | null
}

/** How long a connection may take. */
const CONNECT_MS = 10_000

const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]

/**
 * Speaks the distribution protocol to any registry: https://github.com/opencontainers/distribution-spec
 *
 * Every method throws ConveyorError: `invalid` for a name or reference that cannot be, `unauthorized`
 * with what to do, `not_found`, and `unavailable` when the registry does not do its work after three
 * retries, or (not retryable) for what it will not do.
 */
export function registryClient(options: RegistryClientOptions): RegistryClient {
  const insecure = new Set(options.insecureHosts)
  const { mayBeLocal = () => false, dispatcher } = options
  // Each has connections of its own: what one may reach, the other may not.
  const own = agentOf(true, options)
  const others = agentOf(false, options)
  const send = sender({
    dispatcher: (local) => dispatcher ?? (local ? own : others).dispatcher,
    backoffMs: options.backoffMs ?? [200, 600, 1800],
  })
  const auth = registryAuth(options.credentials, send)

  /** One request on a manifest. */
  async function call(
    target: ImageReference,
    request: Pick<HttpRequest, 'method' | 'headers' | 'body' | 'signal'>,
  ): Promise<HttpResponse> {
    const { path } = target
    const verb = request.method === 'PUT' ? 'tagging' : 'reading'
    const actions = request.method === 'PUT' ? 'pull,push' : 'pull'
    const about = { purpose: `${verb} ${target}`, scope: `repository:${path}:${actions}` }
    return (await ask(target, `${path}/manifests/${target.identifier}`, about, request)).answer
  }

  /** One request, with the login that the registry asks for. */
  async function ask(
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
        request.signal?.throwIfAborted()
        const next = await auth.answer(access, parseChallenges(answer.header('www-authenticate')), grant)
        if (next) {
          grant = next
          continue
        }
      }
      auth.drop(access)
      const what = grant?.username
        ? `refuses the login of ${grant.username}`
        : 'wants a login, and there is none'
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
    const promised = isDigest(reference) ? reference : (answer.header('docker-content-digest') ?? digest)
    if (digest !== promised) {
      throw new ConveyorError(
        'unavailable',
        `registry ${target.host} sent a manifest for ${target} with the digest ${digest}, not ${promised}`,
        { hint: 'Check the storage of the registry, and any proxy before it' },
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
    // Some proxies let no HEAD through.
    if (answer.status === 405 || answer.status === 501) return digestByGet(imageName, reference, signal)
    if (answer.status !== 200) throw refused(target, answer, 'reading')
    const digest = answer.header('docker-content-digest')
    // The header is a "should" in the spec, and the digest of the bytes is as good.
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
        // A tag that must not change is as it should be.
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

    async ping(host, signal) {
      const { apiHost } = parseReference(`${host}/any`)
      // A token without a scope is what a login is tried with: it is for no repository.
      const about = { purpose: 'logging in', scope: '' }
      const { answer, grant } = await ask({ host, apiHost }, '', about, {
        method: 'GET',
        headers: {},
        signal,
      })
      const said = registryResponse(answer)
      if (isTransient(said)) {
        throw responseError(said, { image: `${host}/any`, action: 'pull' }, `asking ${host}`)
      }
      if (answer.status !== 200) {
        throw new ConveyorError('invalid', `${host} answers as no registry does (HTTP ${answer.status})`, {
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

/** Connections to registries of all the world, or also to those on this machine. */
function agentOf(
  local: boolean,
  { addresses, proxies = NO_PROXIES }: Pick<RegistryClientOptions, 'addresses' | 'proxies'>,
): Connections {
  // Where they are reached is said, so no proxy leads there.
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
      // Dockerfiles name as many hosts as they like.
      maxOrigins: 256,
    },
  )
}

/** What was refused before counts, also where the tag may not be read. */
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

/** Some servers say nothing useful in Content-Type; the manifest itself may know. */
function mediaTypeOf(answer: HttpResponse): string {
  const said = answer.header('content-type')?.replace(/\s*;.*$/s, '')
  if (said !== undefined && MANIFEST_TYPES.includes(said)) return said
  try {
    const { mediaType } = JSON.parse(answer.body.toString()) as { mediaType?: unknown }
    if (typeof mediaType === 'string' && MANIFEST_TYPES.includes(mediaType)) return mediaType
  } catch {
    // Not JSON: then what the server said is all there is.
  }
  return said ?? 'application/octet-stream'
}

function refused(target: ImageReference, answer: HttpResponse, verb: 'reading' | 'tagging'): ConveyorError {
  const asked = { image: `${target}`, action: verb === 'tagging' ? 'tag' : 'pull' } as const
  return responseError(registryResponse(answer), asked, `${verb} ${target}`)
}
