import { type Dispatcher, request } from 'undici'
import { ConveyorError } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import { wholeBody } from '../net/bodies.ts'
import { firstCause } from '../net/first-cause.ts'
import { retryAfterMs } from '../net/retry-after.ts'
import { retry } from '../util/retry.ts'
import { jsonOf, LARGEST_ANSWER } from './json.ts'
import { isTransient, type RegistryResponse } from './response.ts'

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  url: URL
  headers: Record<string, string>
  body?: Uint8Array | string
  /** The server, for errors: `registry ghcr.io`. The purpose reads `reading ghcr.io/acme/app:main`. */
  peer: string
  /** Whether it, and whatever it redirects to, may have a loopback address. */
  local: boolean
  purpose: string
  /** Aborts the request, with the signal's reason. */
  signal?: AbortSignal | undefined
}

export interface HttpResponse {
  status: number
  /** A header's value; repeated headers are joined with commas. */
  header(name: string): string | undefined
  body: Buffer
  /** False after a redirect to another host, which must not get our credentials. */
  sameOrigin: boolean
}

/** Sends one request and reads the whole response, whatever its status. */
export type Send = (request: HttpRequest) => Promise<HttpResponse>

export interface SendOptions {
  /** Connections for a request, by HttpRequest's `local`. */
  dispatcher(local: boolean): Dispatcher
  /** Delays before the retries, in milliseconds. */
  backoffMs: readonly number[]
  /** How long an attempt may take, in milliseconds; a server can send one byte at a time forever. */
  requestMs: number
}

/** Bytes; distribution rejects manifests over 4 MiB. */
const MAX_BODY = 4 << 20
const MAX_REDIRECTS = 5
/** If a registry requests a longer wait, the queue retries the whole build later. */
const MAX_WAIT_MS = 15_000

const TRANSIENT = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

/**
 * Creates a Send that retries transient failures (refused or lost connections, 429, 5xx), and follows redirects
 * without ever sending our credentials to another host. Returns the last response, and throws ConveyorError
 * `unavailable` if there is none.
 */
export function sender({ dispatcher, backoffMs, requestMs }: SendOptions): Send {
  return async (req) => {
    const attempt = async () => {
      const answer = await tryOnce(req, dispatcher(req.local), requestMs)
      const said = registryResponse(answer)
      if (isTransient(said)) throw new TransientResponse(answer, said.retryAfterMs ?? 0)
      return answer
    }
    const delays = (failures: number, error: unknown) => {
      const delay = backoffMs[failures - 1]
      const askedMs = error instanceof TransientResponse ? error.retryAfterMs : 0
      return delay === undefined || askedMs > MAX_WAIT_MS ? undefined : Math.max(askedMs, delay)
    }
    try {
      return await retry(attempt, { delays, isRetryable, signal: req.signal })
    } catch (error) {
      if (error instanceof TransientResponse) return error.answer
      throw error instanceof NoResponse ? noResponse(req, error.failure) : error
    }
  }
}

/** A response after which a retry can succeed: 429 or 5xx. */
class TransientResponse extends Error {
  readonly answer: HttpResponse
  readonly retryAfterMs: number

  constructor(answer: HttpResponse, retryAfterMs: number) {
    super(`HTTP ${answer.status}`)
    this.answer = answer
    this.retryAfterMs = retryAfterMs
  }
}

/** There was no response. */
class NoResponse extends Error {
  readonly failure: Failure

  constructor(failure: Failure) {
    super(failure.reason)
    this.failure = failure
  }
}

function isRetryable(error: unknown): boolean {
  return error instanceof TransientResponse || (error instanceof NoResponse && error.failure.transient)
}

/** The error in a response of a registry or token server. Responses are untrusted: messages are cut to one line. */
export function registryResponse({ status, header, body }: HttpResponse): RegistryResponse {
  const askedMs = retryAfterMs(header('retry-after'))
  const error = status >= 400 ? firstError(body) : { code: '', message: '' }
  return { status, ...error, ...(askedMs !== undefined && { retryAfterMs: askedMs }) }
}

function firstError(body: Buffer): { code: string; message: string } {
  try {
    const said = jsonOf(body, LARGEST_ANSWER) as { errors?: { code?: unknown; message?: unknown }[] }
    const { code = '', message = '' } = said.errors?.[0] ?? {}
    const line = (text: unknown) => oneLine(String(text)).slice(0, 200)
    return { code: line(code), message: line(message) }
  } catch {
    return { code: '', message: '' }
  }
}

interface Failure {
  reason: string
  transient: boolean
  hint?: string
  cause?: unknown
}

/** @throws NoResponse */
async function tryOnce(req: HttpRequest, dispatcher: Dispatcher, limitMs: number): Promise<HttpResponse> {
  const limit = AbortSignal.timeout(limitMs)
  const signal = req.signal ? AbortSignal.any([req.signal, limit]) : limit
  try {
    return await exchange({ ...req, signal }, dispatcher)
  } catch (error) {
    req.signal?.throwIfAborted()
    if (error instanceof ConveyorError) throw error
    if (limit.aborted) {
      // Another attempt would take as long again: a build is retried later.
      throw new NoResponse({
        reason: `its answer was not complete after ${limitMs / 1000} s`,
        transient: false,
      })
    }
    throw new NoResponse(explain(error))
  }
}

async function exchange(req: HttpRequest, dispatcher: Dispatcher): Promise<HttpResponse> {
  let { url } = req
  let headers: Record<string, string> = { 'user-agent': 'conveyor', ...req.headers }
  for (let redirects = 0; ; redirects++) {
    const {
      statusCode,
      headers: received,
      body,
    } = await request(url, {
      dispatcher,
      method: req.method,
      headers,
      body: req.body ?? null,
      signal: req.signal ?? null,
      // By default, undici closes the connection after a HEAD in case a broken server sends a body.
      reset: false,
    })
    const header = (name: string) => {
      const value = received[name]
      return Array.isArray(value) ? value.join(', ') : value
    }
    const bytes = await readAll(body, req)
    const next = redirects < MAX_REDIRECTS ? redirectTarget(req, url, statusCode, header('location')) : null
    if (!next) {
      return { status: statusCode, header, body: bytes, sameOrigin: url.origin === req.url.origin }
    }
    if (next.origin !== url.origin) {
      const { authorization: _, ...harmless } = headers
      headers = harmless
    }
    url = next
  }
}

/** Where a redirect leads; null if it is not followed. Requests with a body are never sent to another host. */
function redirectTarget(req: HttpRequest, from: URL, status: number, location?: string): URL | null {
  if (![301, 302, 303, 307, 308].includes(status) || !location || !URL.canParse(location, from.href))
    return null
  const to = new URL(location, from)
  if (to.protocol !== 'https:' && (to.protocol !== 'http:' || from.protocol === 'https:')) return null
  const readOnly = req.method === 'GET' || req.method === 'HEAD'
  return readOnly || (status >= 307 && to.origin === from.origin) ? to : null
}

async function readAll(body: AsyncIterable<Buffer>, req: HttpRequest): Promise<Buffer> {
  const whole = await wholeBody(body, MAX_BODY)
  if (whole !== null) return whole
  throw new ConveyorError('invalid', `${req.peer} sent more than 4 MiB while ${req.purpose}`)
}

function explain(error: unknown): Failure {
  const { code = '', message } = firstCause(error)
  // `localhost` has two addresses; the combined error has a code but no message.
  const reason = message || code || 'unknown error'
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    return {
      reason: 'the TLS handshake failed',
      transient: false,
      cause: error,
      hint: 'If the registry has no TLS, use http:// in its URL',
    }
  }
  if (/CERT|SELF_SIGNED|ISSUER|ERR_TLS/.test(code)) {
    return {
      reason: `its certificate is not trusted: ${reason}`,
      transient: false,
      cause: error,
      hint: 'Set NODE_EXTRA_CA_CERTS to the file of its CA certificate, or of its own certificate if it is self-signed',
    }
  }
  if (code === 'ERR_REFUSED_ADDRESS') {
    return {
      reason: message,
      transient: false,
      cause: error,
      hint: 'Link-local addresses are blocked, and loopback addresses are allowed for the registry of --registry (REGISTRY) only',
    }
  }
  if (code === 'ENOTFOUND') {
    return { reason: 'no such host', transient: false, cause: error, hint: 'Check the name of the registry' }
  }
  return { reason, transient: TRANSIENT.has(code), cause: error }
}

function noResponse(req: HttpRequest, { reason, hint, cause }: Failure): ConveyorError {
  return new ConveyorError('unavailable', `${req.peer} does not respond (${reason}) while ${req.purpose}`, {
    hint: hint ?? 'Check that it is running and reachable from here',
    ...(cause === undefined ? {} : { cause }),
  })
}
