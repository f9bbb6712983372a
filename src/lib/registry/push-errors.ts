import { ConveyorError } from '../core/errors.ts'
import { canonicalHost, ImageReference, splitReference } from './image-name.ts'
import { jsonOf, LARGEST_MANIFEST } from './json.ts'
import { innermost, parseRegistryMessage, type RegistryMessage } from './messages.ts'
import type { Manifest, Registry } from './registry.ts'
import {
  immutableTagError,
  isImmutableTag,
  isRateLimit,
  locate,
  mayBeImmutableTag,
  type RegistryResponse,
  responseError,
} from './response.ts'

/** Queries a registry where an engine's message is not enough. */
export type ManifestReader = Pick<Registry, 'head' | 'manifest'>

/** Where to look up what an engine's message leaves out. */
export interface RegistryLookup {
  /** Nothing is looked up without one. */
  registry?: ManifestReader | undefined
  /** Ends a query, with its reason. */
  signal?: AbortSignal | undefined
}

/** A failure to pull a base image. */
export interface BaseFailure {
  text: string
  /** From the name of the step that pulled it; null if only the text tells. */
  image: string | null
  cause: unknown
}

/**
 * The error for a base image, or a layer of it, that could not be pulled. If the registry denies access or does not have
 * it, that is a result of the build.
 */
export async function baseImageError(
  { text, image, cause }: BaseFailure,
  lookup: RegistryLookup,
): Promise<ConveyorError> {
  const message = parseRegistryMessage(text)
  const name = image ?? requestedImage(message)
  const part = image === null ? 'a layer of ' : ''
  const what = `${part}${name === null ? 'a base image' : `${part && 'the '}base image ${name}`}`
  if (message?.kind === 'unreachable') return unreachable(what, message.why, cause)
  const operation = { image: name ?? '', action: 'pull' } as const
  if (message && !isRateLimit(message.answer)) {
    return asResult(responseError(message.answer, operation, what, cause), name)
  }
  const found = name === null ? undefined : await query(name, lookup)
  if (message) return responseError(withRetryAfter(message.answer, found), operation, what, cause)
  if (found instanceof ConveyorError) return asResult(withCause(what, found, cause), name)
  if (found === null) return asResult(responseError(NOT_FOUND, operation, what, cause), name)
  return new ConveyorError('unavailable', `${what}: ${innermost(text)}`, {
    cause,
    system: 'registry',
    hint: 'Check that its registry is running and that the builder can reach it',
  })
}

/** How a push failed. */
export interface PushFailure {
  error: ConveyorError
  /** Whether to retry the push at once, rather than the whole build later. */
  soon: boolean
}

/**
 * The error for a failed push: transient failures are `unavailable`; `unauthorized` and other final errors are not
 * retryable.
 * @param text the message of the engine or BuildKit
 */
export async function registryPushError(
  text: string,
  reference: string,
  cause: unknown,
  lookup: RegistryLookup,
): Promise<PushFailure> {
  const what = pushing(reference)
  const said = parseRegistryMessage(text)
  if (said?.kind === 'unreachable') return { error: unreachable(what, said.why, cause), soon: true }
  if (said && !isAmbiguous(said.answer)) {
    return {
      error: responseError(said.answer, { image: reference, action: 'push' }, what, cause),
      soon: true,
    }
  }
  // Engines that push on their own also report a token server that is down as a missing login.
  const found = await query(reference, lookup)
  const isLimited = said !== null && isRateLimit(said.answer)
  if (found instanceof ConveyorError && !isLimited && (!said || found.retryable)) {
    return { error: withCause(what, found, cause), soon: false }
  }
  if (said) {
    const answer = withRetryAfter(said.answer, found)
    const error = responseError(answer, { image: reference, action: 'push' }, what, cause)
    return { error, soon: !isLimited }
  }
  const error = new ConveyorError('unavailable', `${what}: ${innermost(text)}`, {
    cause,
    hint: REACH,
    system: 'registry',
  })
  return { error, soon: true }
}

/**
 * After a rejected push, checks whether the tag is immutable and already points to the same image.
 * @param isSame whether the image under the tag is the one to push
 * @param manifestIsGood whether a 400 cannot be due to the manifest's format
 * @returns the digest of that image; null if the push was rejected for another reason
 * @throws ConveyorError if the tag is immutable and points to another image
 */
export async function findPushedTag(
  said: RegistryMessage | null,
  reference: string,
  { registry, signal }: RegistryLookup,
  isSame: (existing: { digest: string; imageId: string }) => Promise<boolean>,
  manifestIsGood = false,
): Promise<string | null> {
  if (said?.kind !== 'answer' || !registry || !mayBeImmutableTag(said.answer)) return null
  const { name, identifier } = splitReference(reference)
  const existing = await registry.manifest(name, identifier, signal).catch((error: unknown) => {
    signal?.throwIfAborted()
    // The tag does not exist or cannot be read, so the error of the push counts.
    if (error instanceof ConveyorError) return null
    throw error
  })
  if (existing === null) return null
  if (await isSame({ digest: existing.digest, imageId: configDigest(existing) })) return existing.digest
  const { status, code } = said.answer
  const isImmutable = isImmutableTag(said.answer) || (manifestIsGood && status === 400 && code === '')
  if (isImmutable) throw immutableTagError(pushing(reference), said.answer)
  return null
}

/** The digest of an image's config, which engines use as the image id; empty for an index or an invalid manifest. */
function configDigest({ bytes }: Manifest): string {
  const manifest = jsonOf(bytes, LARGEST_MANIFEST) as { config?: { digest?: unknown } } | null | undefined
  const digest = manifest?.config?.digest
  return typeof digest === 'string' ? digest : ''
}

/** `pushing IMAGE failed`; shortens a sha tag to leave room for the reason in a commit status. */
export function pushing(reference: string): string {
  return `pushing ${reference.replace(/(:[0-9a-f]{7})[0-9a-f]{33,57}$/, '$1')} failed`
}

const REACH = 'Check that the registry is running and that the engine can reach it'
const NOT_FOUND: RegistryResponse = { status: 404, code: '', message: '' }

/** Whether the message leaves out what matters: how long to wait, or whether the login is really at fault. */
function isAmbiguous(answer: RegistryResponse): boolean {
  return (
    isRateLimit(answer) ||
    answer.status === 401 ||
    answer.code === 'UNAUTHORIZED' ||
    answer.code === 'UNKNOWN'
  )
}

function unreachable(what: string, why: string, cause: unknown): ConveyorError {
  const misconfigured = MISCONFIGURED.find(({ form }) => form.test(why))
  return new ConveyorError('unavailable', `${what}: the registry does not respond: ${why}`, {
    cause,
    system: 'registry',
    hint: misconfigured?.hint ?? REACH,
    retryable: misconfigured === undefined,
  })
}

/** Permanent failures, in the wording of Go. */
const MISCONFIGURED = [
  {
    form: /^http: server gave HTTP response to HTTPS client$/,
    hint: "Add the registry to the engine's insecure-registries (daemon.json), or enable TLS on it",
  },
  {
    form: /^(?:tls: failed to verify certificate: )?x509: /,
    hint: 'Install its CA certificate for the engine: /etc/docker/certs.d/HOST/ca.crt',
  },
]

/** The digest of a tag in the registry, null if there is none, or the registry's error; undefined without a registry. */
async function query(
  reference: string,
  { registry, signal }: RegistryLookup,
): Promise<string | null | undefined | ConveyorError> {
  if (!registry) return undefined
  try {
    const { name, identifier } = splitReference(reference)
    return await registry.head(name, identifier, signal)
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof ConveyorError) return error
    throw error
  }
}

/** Adds the Retry-After of our own query, as messages leave it out. */
function withRetryAfter(answer: RegistryResponse, found: unknown): RegistryResponse {
  const retryAfterMs = found instanceof ConveyorError ? found.retryAfterMs : undefined
  return { ...answer, retryAfterMs }
}

function withCause(what: string, error: ConveyorError, cause: unknown): ConveyorError {
  const { kind, message, hint, retryable, retryAfterMs } = error
  const rest = {
    cause,
    retryable,
    retryAfterMs,
    system: 'registry' as const,
    ...(hint === undefined ? {} : { hint }),
  }
  return new ConveyorError(kind, `${what}: ${message}`, rest)
}

/** An image that cannot be pulled for good is a result of the build: the Dockerfile should name another one. */
function asResult(error: ConveyorError, image: string | null): ConveyorError {
  if (error.kind === 'unavailable') return error
  const { cause, kind, message } = error
  const { host } = locate(image ?? '')
  const hint =
    kind === 'not_found'
      ? `Check the name of the base image, and that Conveyor has access to it (docker login ${host})`
      : error.hint
  return new ConveyorError('build_failed', message, { cause, ...(hint === undefined ? {} : { hint }) })
}

/** The image that a request was for, or for a layer of. */
function requestedImage(message: RegistryMessage | null): string | null {
  if (message?.kind !== 'answer' || message.url === null) return null
  const [, host = '', path = '', what = '', reference = ''] =
    /^https?:\/\/([^/]+)\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)$/.exec(message.url) ?? []
  if (path === '') return null
  const image = new ImageReference(`${canonicalHost(host)}/${path}`)
  return `${what === 'blobs' ? image : image.withIdentifier(reference)}`
}
