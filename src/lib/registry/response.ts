import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { parseReference } from './image-name.ts'

/** What a registry answered that did not do what it was asked. */
export interface RegistryResponse {
  /** Of HTTP, perhaps from a proxy before the registry; null where only the code is known. */
  status: number | null
  /** Of its first error, `NAME_UNKNOWN`; empty where it gave none, or none is known. */
  code: string
  /** In one line; may be empty. */
  message: string
  /** Its Retry-After, in milliseconds. */
  retryAfterMs?: number | undefined
}

/** What it was asked. */
export interface Operation {
  /** `name:tag` or `name@digest`, in full. */
  image: string
  /** `tag` puts a manifest of layers that are there. */
  action: 'pull' | 'push' | 'tag'
}

interface Verdict {
  kind: ErrorKind
  why: string
  hint?: string
  /** As of the kind, by default. */
  retryable?: boolean
}

/**
 * What an answer means: by its status and its code, and where vendors tell two things by one code, by the whole
 * of the message. What may pass is `unavailable` and retryable; everything else is final.
 * @param what was being done, `pushing ghcr.io/acme/app:1 failed`: the message begins with it
 */
export function responseError(
  answer: RegistryResponse,
  asked: Operation,
  what: string,
  cause?: unknown,
): ConveyorError {
  const { kind, why, hint, retryable } = verdict(answer, asked)
  return new ConveyorError(kind, `${what}: ${why} (${detail(answer)})`, {
    ...(cause === undefined ? {} : { cause }),
    ...(hint === undefined ? {} : { hint }),
    ...(retryable === undefined ? {} : { retryable }),
    retryAfterMs: answer.retryAfterMs,
  })
}

/** `HTTP 403 DENIED requested access to the resource is denied`, as far as it is known. */
export function detail({ status, code, message, retryAfterMs }: RegistryResponse): string {
  const parts = [status === null ? '' : `HTTP ${status}`, code, message].filter(Boolean)
  const wait = retryAfterMs ? `, asks to wait ${Math.ceil(retryAfterMs / 1000)} s` : ''
  return `${parts.join(' ') || 'no answer'}${wait}`
}

/** Whether an answer may be another one soon. */
export function isTransient({ status, code }: RegistryResponse): boolean {
  return isRateLimit({ status, code }) || isServerError({ status, code })
}

/** What to do about a refused or missing login. */
export function loginHint(host: string): string {
  return `Run \`docker login ${host}\` as the user that Conveyor runs as`
}

/** What a tag that must not change means, when it is to be another image. */
export function immutableTagError(what: string, answer: RegistryResponse): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `${what}: the tag is there with another image, and the registry does not let it change (${detail(answer)})`,
    {
      retryable: false,
      hint: 'Make tags mutable in the settings of the repository in the registry, or remove the tag there',
    },
  )
}

function verdict(answer: RegistryResponse, { image, action }: Operation): Verdict {
  const { status, code } = answer
  const { host, path } = locate(image)
  const writes = action !== 'pull'
  if (isRateLimit(answer)) {
    const hint = writes
      ? `Build less at a time (--workers), or have the limit of ${host} raised`
      : `${loginHint(host)}: accounts have a higher limit. Or keep the image in a registry of your own`
    return { kind: 'unavailable', why: 'the registry limits how often it is asked', hint }
  }
  if (isServerError(answer)) {
    const hint = `Look in the log of ${host}, and of the proxy before it if there is one`
    return { kind: 'unavailable', why: 'the registry is in trouble', hint }
  }
  if (writes && isQuota(answer)) {
    return final(
      'the quota in the registry is used up',
      `Remove images from ${host}, or have the quota raised`,
    )
  }
  if (status === 401 || code === 'UNAUTHORIZED') return loginRequired(host, path, writes)
  if (writes && status === 413) {
    return final(
      'a proxy before the registry takes nothing as large as a layer of it',
      'Raise the limit of the proxy (nginx: client_max_body_size 0), or make the layers smaller',
    )
  }
  if (writes && isImmutableTag(answer)) return final('the registry does not let the tag change', KEPT_HINT)
  if (status === 403 || code === 'DENIED') return notAllowed(host, path, writes, code)
  if (status === 405 || code === 'UNSUPPORTED') return writes ? readOnly(host) : refused()
  if (status === 404 || GONE.has(code)) return absent(host, path, action, code)
  return refused()
}

/** Where an image is, as `docker login` and people call that; of what is no image's name, only the name. */
export function locate(image: string): { host: string; path: string } {
  try {
    return parseReference(image)
  } catch {
    // What a Dockerfile has for a name is told as it is.
    return { host: 'HOST', path: image }
  }
}

const KEPT_HINT = 'Make tags mutable in the settings of the repository in the registry'

export function isRateLimit({ status, code }: Pick<RegistryResponse, 'status' | 'code'>): boolean {
  return status === 429 || code === 'TOOMANYREQUESTS'
}

/** Of 5xx all but "not implemented" and "insufficient storage". Uploads that got lost can begin anew. */
function isServerError({ status, code }: Pick<RegistryResponse, 'status' | 'code'>): boolean {
  const failed = status !== null && status >= 500 && status !== 501 && status !== 507
  return failed || code === 'UNAVAILABLE' || LOST.has(code)
}

const LOST = new Set(['BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID'])

/** Harbor and Quay say DENIED, as of a login that may not: their messages tell. */
function isQuota({ status, code, message }: RegistryResponse): boolean {
  return status === 507 || (code === 'DENIED' && QUOTAS.some((form) => form.test(message)))
}

const QUOTAS = [
  // https://github.com/goharbor/harbor/blob/main/src/pkg/quota/types/... (ResourceOverflow)
  /^adding \S+ \S+ of storage resource, which when updated to current usage of \S+ \S+ will exceed the configured upper limit of \S+ \S+\.?$/,
  // https://github.com/quay/quay/blob/master/endpoints/v2/errors.py (QuotaExceeded)
  /^Quota has been exceeded on namespace$/,
]

/** Whether it is worth a look if the tag is what it should be: of what is refused for good, and can be of a tag. */
export function mayBeImmutableTag(answer: RegistryResponse): boolean {
  const { status, code } = answer
  const mayBe = status === null || (status >= 400 && status < 500 && ![401, 404, 413].includes(status))
  return mayBe && code !== 'UNAUTHORIZED' && !isTransient(answer) && !GONE.has(code) && !isQuota(answer)
}

/** ECR; Harbor, whose code the classic engine's texts leave out; what HTTP has for it. */
export function isImmutableTag({ status, code, message }: RegistryResponse): boolean {
  return (
    code === 'TAG_INVALID' ||
    code === 'ImageTagAlreadyExistsException' ||
    status === 412 ||
    status === 409 ||
    KEPT.test(message)
  )
}

/** https://github.com/goharbor/harbor (ErrImmutable) */
const KEPT = /^Failed to process request due to '[^' ]+' configured as immutable\.$/

const GONE = new Set([
  'MANIFEST_UNKNOWN',
  'MANIFEST_BLOB_UNKNOWN',
  'BLOB_UNKNOWN',
  'NAME_UNKNOWN',
  'RepositoryNotFoundException',
])
const NO_REPOSITORY = new Set(['NAME_UNKNOWN', 'RepositoryNotFoundException'])

/** Final, though no fault of the commit. */
function final(why: string, hint: string): Verdict {
  return { kind: 'unavailable', why, hint, retryable: false }
}

function loginRequired(host: string, path: string, writes: boolean): Verdict {
  const hint = `${loginHint(host)}, with an account that may ${writes ? 'write' : 'read'} ${path}`
  return { kind: 'unauthorized', why: 'the registry does not take the login, or wants one', hint }
}

function notAllowed(host: string, path: string, writes: boolean, code: string): Verdict {
  const login = `${loginHint(host)}, with an account that may ${writes ? 'write' : 'read'} ${path}`
  // What BuildKit says of a refused push leaves out the code and the message.
  const more = writes && code === '' ? '; some registries answer so, too, when a quota is used up' : ''
  return { kind: 'unauthorized', why: 'the registry does not allow it', hint: `${login}${more}` }
}

function readOnly(host: string): Verdict {
  return final(
    'the registry takes no pushes',
    `${host} is read-only (a mirror, or in maintenance): name another with --registry (REGISTRY), or end that`,
  )
}

/** Of what is pushed only the repository can be absent, of which ECR and others make none by themselves. */
function absent(host: string, path: string, action: Operation['action'], code: string): Verdict {
  const make = `Make the repository ${path} in ${host}, which makes none by itself (ECR: aws ecr create-repository --repository-name ${path})`
  if (action === 'push') return final(`the registry has no repository ${path}`, make)
  if (action === 'tag' && NO_REPOSITORY.has(code)) {
    return { kind: 'not_found', why: `the registry has no repository ${path}`, hint: make }
  }
  return {
    kind: 'not_found',
    why: `the registry does not have it${action === 'tag' ? ', or a part of it' : ''}`,
  }
}

function refused(): Verdict {
  return { kind: 'invalid', why: 'the registry refuses it' }
}
