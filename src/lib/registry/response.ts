import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { parseReference } from './image-name.ts'

/** A registry's response to a request that failed. */
export interface RegistryResponse {
  /** HTTP status, perhaps from a proxy in front of the registry; null if only the code is known. */
  status: number | null
  /** Code of its first error, `NAME_UNKNOWN`; empty if unknown. */
  code: string
  /** One line; may be empty. */
  message: string
  /** Its Retry-After, in milliseconds. */
  retryAfterMs?: number | undefined
}

/** The request that failed. */
export interface Operation {
  /** `name:tag` or `name@digest`. */
  image: string
  /** `tag` puts a manifest whose layers are already in the repository. */
  action: 'pull' | 'push' | 'tag'
}

interface Verdict {
  kind: ErrorKind
  why: string
  hint?: string
  /** By default, as for the kind. */
  retryable?: boolean
}

/**
 * Classifies a response by its status and code, and by the whole message where vendors use one code for several
 * errors. Transient errors are `unavailable` and retryable; everything else is final.
 * @param what failed, as the beginning of the message: `pushing ghcr.io/acme/app:1 failed`
 */
export function responseError(
  response: RegistryResponse,
  operation: Operation,
  what: string,
  cause?: unknown,
): ConveyorError {
  const { kind, why, hint, retryable } = verdict(response, operation)
  return new ConveyorError(kind, `${what}: ${why} (${describe(response)})`, {
    ...(cause === undefined ? {} : { cause }),
    ...(hint === undefined ? {} : { hint }),
    ...(retryable === undefined ? {} : { retryable }),
    retryAfterMs: response.retryAfterMs,
    system: 'registry',
  })
}

/** `HTTP 403 DENIED requested access to the resource is denied`, or the parts of it that are known. */
export function describe({ status, code, message, retryAfterMs }: RegistryResponse): string {
  const parts = [status === null ? '' : `HTTP ${status}`, code, message].filter(Boolean)
  const wait = retryAfterMs ? `, retry after ${Math.ceil(retryAfterMs / 1000)} s` : ''
  return `${parts.join(' ') || 'no response'}${wait}`
}

/** Whether a retry may succeed. */
export function isTransient({ status, code }: RegistryResponse): boolean {
  return isRateLimit({ status, code }) || isServerError({ status, code })
}

/** What to do about a rejected or missing login. */
export function loginHint(host: string): string {
  return `Run \`docker login ${host}\` as the user that Conveyor runs as`
}

/** A tag cannot be moved because it is immutable. */
export function immutableTagError(what: string, response: RegistryResponse): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `${what}: the tag already points to another image, and the registry does not allow changing it (${describe(response)})`,
    {
      system: 'registry',
      retryable: false,
      hint: "Make tags mutable in the repository's settings in the registry, or delete the tag there",
    },
  )
}

function verdict(response: RegistryResponse, { image, action }: Operation): Verdict {
  const { status, code } = response
  const { host, path } = locate(image)
  const writes = action !== 'pull'
  if (isRateLimit(response)) {
    const hint = writes
      ? `Run fewer builds at once (--workers), or have the rate limit of ${host} raised`
      : `${loginHint(host)}: authenticated users have a higher limit. Or keep the image in your own registry`
    return { kind: 'unavailable', why: 'the registry is rate-limiting requests', hint }
  }
  if (isServerError(response)) {
    const hint = `Check the logs of ${host} and of any proxy in front of it`
    return { kind: 'unavailable', why: 'the registry failed to process the request', hint }
  }
  if (writes && isQuotaExceeded(response)) {
    return final('the registry quota is exceeded', `Delete images from ${host}, or have the quota raised`)
  }
  if (status === 401 || code === 'UNAUTHORIZED') return unauthorized(host, path, writes)
  if (writes && status === 413) {
    return final(
      'a proxy in front of the registry rejects layers of this size',
      "Raise the proxy's body size limit (nginx: client_max_body_size 0), or make the layers smaller",
    )
  }
  if (writes && isImmutableTag(response))
    return final('the registry does not allow changing the tag', IMMUTABLE_HINT)
  if (status === 403 || code === 'DENIED') return forbidden(host, path, writes, code)
  if (status === 405 || code === 'UNSUPPORTED') return writes ? readOnly(host) : rejected()
  if (status === 404 || NOT_FOUND.has(code)) return notFound(host, path, action, code)
  return rejected()
}

/** Registry and repository of an image, for messages; works for invalid references too. */
export function locate(image: string): { host: string; path: string } {
  try {
    return parseReference(image)
  } catch {
    // A Dockerfile may name anything.
    return { host: 'HOST', path: image }
  }
}

const IMMUTABLE_HINT = "Make tags mutable in the repository's settings in the registry"

export function isRateLimit({ status, code }: Pick<RegistryResponse, 'status' | 'code'>): boolean {
  return status === 429 || code === 'TOOMANYREQUESTS'
}

/** Any 5xx but "not implemented" and "insufficient storage", or a lost upload, which can be restarted. */
function isServerError({ status, code }: Pick<RegistryResponse, 'status' | 'code'>): boolean {
  const failed = status !== null && status >= 500 && status !== 501 && status !== 507
  return failed || code === 'UNAVAILABLE' || LOST_UPLOAD.has(code)
}

const LOST_UPLOAD = new Set(['BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID'])

/** Harbor and Quay answer DENIED, as for a lack of permissions; their messages tell the difference. */
function isQuotaExceeded({ status, code, message }: RegistryResponse): boolean {
  return status === 507 || (code === 'DENIED' && QUOTAS.some((form) => form.test(message)))
}

const QUOTAS = [
  // https://github.com/goharbor/harbor/blob/main/src/pkg/quota/types/... (ResourceOverflow)
  /^adding \S+ \S+ of storage resource, which when updated to current usage of \S+ \S+ will exceed the configured upper limit of \S+ \S+\.?$/,
  // https://github.com/quay/quay/blob/master/endpoints/v2/errors.py (QuotaExceeded)
  /^Quota has been exceeded on namespace$/,
]

/** Whether a push may have been rejected because its tag is immutable. */
export function mayBeImmutableTag(response: RegistryResponse): boolean {
  const { status, code } = response
  const mayBe = status === null || (status >= 400 && status < 500 && ![401, 404, 413].includes(status))
  return (
    mayBe &&
    code !== 'UNAUTHORIZED' &&
    !isTransient(response) &&
    !NOT_FOUND.has(code) &&
    !isQuotaExceeded(response)
  )
}

/** By ECR's code, Harbor's code or message (the classic engine leaves out its code), or HTTP status. */
export function isImmutableTag({ status, code, message }: RegistryResponse): boolean {
  return (
    code === 'TAG_INVALID' ||
    code === 'ImageTagAlreadyExistsException' ||
    status === 412 ||
    status === 409 ||
    IMMUTABLE.test(message)
  )
}

/** https://github.com/goharbor/harbor (ErrImmutable) */
const IMMUTABLE = /^Failed to process request due to '[^' ]+' configured as immutable\.$/

const NOT_FOUND = new Set([
  'MANIFEST_UNKNOWN',
  'MANIFEST_BLOB_UNKNOWN',
  'BLOB_UNKNOWN',
  'NAME_UNKNOWN',
  'RepositoryNotFoundException',
])
const NO_REPOSITORY = new Set(['NAME_UNKNOWN', 'RepositoryNotFoundException'])

/** A final error that the commit did not cause. */
function final(why: string, hint: string): Verdict {
  return { kind: 'unavailable', why, hint, retryable: false }
}

function unauthorized(host: string, path: string, writes: boolean): Verdict {
  const hint = `${loginHint(host)}, with an account that has ${writes ? 'write' : 'read'} access to ${path}`
  return { kind: 'unauthorized', why: 'the registry requires a login, or rejected the credentials', hint }
}

function forbidden(host: string, path: string, writes: boolean, code: string): Verdict {
  const login = `${loginHint(host)}, with an account that has ${writes ? 'write' : 'read'} access to ${path}`
  // BuildKit's message of a rejected push has neither code nor message of the registry.
  const more = writes && code === '' ? '; some registries respond like this when a quota is exceeded' : ''
  return { kind: 'unauthorized', why: 'the registry denied access', hint: `${login}${more}` }
}

function readOnly(host: string): Verdict {
  return final(
    'the registry does not accept pushes',
    `${host} is read-only (a mirror, or in maintenance): make it writable, or set another registry with --registry (REGISTRY)`,
  )
}

/** For a push, only the repository can be missing: ECR and others do not create it automatically. */
function notFound(host: string, path: string, action: Operation['action'], code: string): Verdict {
  const create = `Create the repository ${path} in ${host}, which does not create repositories on push (ECR: aws ecr create-repository --repository-name ${path})`
  if (action === 'push') return final(`the registry has no repository ${path}`, create)
  if (action === 'tag' && NO_REPOSITORY.has(code)) {
    return { kind: 'not_found', why: `the registry has no repository ${path}`, hint: create }
  }
  return {
    kind: 'not_found',
    why: `the registry does not have it${action === 'tag' ? ', or lacks a part of it' : ''}`,
  }
}

function rejected(): Verdict {
  return { kind: 'invalid', why: 'the registry rejected the request' }
}
