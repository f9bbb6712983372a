import { ConveyorError } from '../core/errors.ts'
import { canonicalHost, ImageReference, splitReference } from './image-name.ts'
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

/** A registry that is asked where the text of an engine does not say enough. */
export type ManifestReader = Pick<Registry, 'head' | 'manifest'>

/** What became of a base image that could not be had. */
export interface BaseFailure {
  text: string
  /** As the step is called that asked for it; null where only the text tells. */
  image: string | null
  cause: unknown
}

/**
 * What it means that a base image, or a layer of it, could not be had. A registry that refuses it, or does not
 * have it, is a result of the build.
 */
export async function baseImageError(
  { text, image, cause }: BaseFailure,
  registry: ManifestReader | undefined,
): Promise<ConveyorError> {
  const said = parseRegistryMessage(text)
  const place = placeOf(said)
  const name = image ?? place?.image ?? null
  const part = image === null ? 'a layer of ' : ''
  const what = `${part}${name === null ? 'a base image' : `${part && 'the '}base image ${name}`}`
  if (said?.kind === 'unreachable') return unreachable(what, said.why, cause)
  const asked = { image: name ?? '', action: 'pull' } as const
  if (said && !isRateLimit(said.answer)) return asResult(responseError(said.answer, asked, what, cause), name)
  const found = name === null ? undefined : await ask(name, registry)
  if (said) return responseError(withPause(said.answer, found), asked, what, cause)
  if (found instanceof ConveyorError) return asResult(withCause(what, found, cause), name)
  if (found === null) return asResult(responseError(NOT_THERE, asked, what, cause), name)
  return new ConveyorError('unavailable', `${what}: ${innermost(text)}`, {
    cause,
    hint: 'Check that its registry runs and that the builder can reach it',
  })
}

/** How a push failed. */
export interface PushFailure {
  error: ConveyorError
  /** Whether it is worth another try at once, rather than another attempt at the build later. */
  soon: boolean
}

/**
 * What a failed push means: what may pass is `unavailable`; `unauthorized` and what else is final is not retryable.
 * @param text of the engine, or of BuildKit
 */
export async function registryPushError(
  text: string,
  reference: string,
  cause: unknown,
  registry: ManifestReader | undefined,
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
  // Also a token server that is down is a missing login, to engines that push themselves.
  const found = await ask(reference, registry)
  const isLimited = said !== null && isRateLimit(said.answer)
  if (found instanceof ConveyorError && !isLimited && (!said || found.retryable)) {
    return { error: withCause(what, found, cause), soon: false }
  }
  if (said) {
    const answer = withPause(said.answer, found)
    const error = responseError(answer, { image: reference, action: 'push' }, what, cause)
    return { error, soon: !isLimited }
  }
  const error = new ConveyorError('unavailable', `${what}: ${innermost(text)}`, { cause, hint: REACH })
  return { error, soon: true }
}

/**
 * Looks at the tag of a push that was refused: registries do not let some tags change.
 * @param isSame whether what is under the tag is the image that was to be pushed
 * @param manifestIsGood that a registry calls the request a bad one is not for the manifest
 * @returns its digest where it is; null where the push was refused for another reason
 * @throws ConveyorError when the tag is another image's, and has to stay so
 */
export async function findPushedTag(
  said: RegistryMessage | null,
  reference: string,
  registry: ManifestReader | undefined,
  isSame: (there: { digest: string; imageId: string }) => Promise<boolean>,
  manifestIsGood = false,
): Promise<string | null> {
  if (said?.kind !== 'answer' || !registry || !mayBeImmutableTag(said.answer)) return null
  const { name, identifier } = splitReference(reference)
  const there = await registry.manifest(name, identifier).catch((error: unknown) => {
    // There is none, or it may not be read: then the refused push counts.
    if (error instanceof ConveyorError) return null
    throw error
  })
  if (there === null) return null
  if (await isSame({ digest: there.digest, imageId: configOf(there) })) return there.digest
  const { status, code } = said.answer
  const isKept = isImmutableTag(said.answer) || (manifestIsGood && status === 400 && code === '')
  if (isKept) throw immutableTagError(pushing(reference), said.answer)
  return null
}

/** The digest of an image's config, which engines call its id; empty for an index, and what is no manifest. */
function configOf({ bytes }: Manifest): string {
  try {
    const { config } = JSON.parse(Buffer.from(bytes).toString()) as { config?: { digest?: unknown } }
    return String(config?.digest ?? '')
  } catch {
    return ''
  }
}

/** `pushing IMAGE failed`; a sha in full would leave no room for the reason in a commit status. */
export function pushing(reference: string): string {
  return `pushing ${reference.replace(/(:[0-9a-f]{7})[0-9a-f]{33,57}$/, '$1')} failed`
}

const REACH = 'Check that the registry runs and that the engine can reach it'
const NOT_THERE: RegistryResponse = { status: 404, code: '', message: '' }

/** Answers of which the text leaves out what counts: how long to wait, or whether it is the login at all. */
function isAmbiguous(answer: RegistryResponse): boolean {
  return (
    isRateLimit(answer) ||
    answer.status === 401 ||
    answer.code === 'UNAUTHORIZED' ||
    answer.code === 'UNKNOWN'
  )
}

function unreachable(what: string, why: string, cause: unknown): ConveyorError {
  const wrong = MISSPOKEN.find(({ form }) => form.test(why))
  return new ConveyorError('unavailable', `${what}: the registry does not answer: ${why}`, {
    cause,
    hint: wrong?.hint ?? REACH,
    retryable: wrong === undefined,
  })
}

/** What stays so, in Go's own words. */
const MISSPOKEN = [
  {
    form: /^http: server gave HTTP response to HTTPS client$/,
    hint: 'Add the registry to insecure-registries of the engine (daemon.json), or give it TLS',
  },
  {
    form: /^(?:tls: failed to verify certificate: )?x509: /,
    hint: 'Give the engine the certificate of its authority: /etc/docker/certs.d/HOST/ca.crt',
  },
]

/** What the registry says of a tag when we ask: its digest, null for none, or how it refuses. */
async function ask(
  reference: string,
  registry: ManifestReader | undefined,
): Promise<string | null | undefined | ConveyorError> {
  if (!registry) return undefined
  try {
    const { name, identifier } = splitReference(reference)
    return await registry.head(name, identifier)
  } catch (error) {
    if (error instanceof ConveyorError) return error
    throw error
  }
}

/** An answer with the pause that the registry asked us for, as texts leave it out. */
function withPause(answer: RegistryResponse, found: unknown): RegistryResponse {
  const retryAfterMs = found instanceof ConveyorError ? found.retryAfterMs : undefined
  return { ...answer, retryAfterMs }
}

function withCause(what: string, error: ConveyorError, cause: unknown): ConveyorError {
  const { kind, message, hint, retryable, retryAfterMs } = error
  const rest = { cause, retryable, retryAfterMs, ...(hint === undefined ? {} : { hint }) }
  return new ConveyorError(kind, `${what}: ${message}`, rest)
}

/** What a registry will not give is a result of the build: the Dockerfile may name something else. */
function asResult(error: ConveyorError, image: string | null): ConveyorError {
  if (error.kind === 'unavailable') return error
  const { cause, kind, message } = error
  const { host } = locate(image ?? '')
  const hint =
    kind === 'not_found'
      ? `Check the name of the base image, and that Conveyor may read it (docker login ${host})`
      : error.hint
  return new ConveyorError('build_failed', message, { cause, ...(hint === undefined ? {} : { hint }) })
}

/** Which image, or layer of it, a request was for. */
function placeOf(said: RegistryMessage | null): { image: string } | null {
  if (said?.kind !== 'answer' || said.url === null) return null
  const [, host = '', path = '', what = '', reference = ''] =
    /^https?:\/\/([^/]+)\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)$/.exec(said.url) ?? []
  if (path === '') return null
  const image = new ImageReference(`${canonicalHost(host)}/${path}`)
  return { image: `${what === 'blobs' ? image : image.withIdentifier(reference)}` }
}
