import { setTimeout as sleep } from 'node:timers/promises'
import { type Dispatcher, request } from 'undici'
import { ConveyorError } from '../errors.ts'

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST'
  url: URL
  headers: Record<string, string>
  body?: Uint8Array | string
  /** Who is asked and what for, as errors say it: `registry ghcr.io` and `reading ghcr.io/acme/app:main`. */
  peer: string
  purpose: string
  /** Ends it, with the signal's reason. */
  signal?: AbortSignal | undefined
}

export interface HttpAnswer {
  status: number
  /** A header's value; several of one name are joined with a comma. */
  header(name: string): string | undefined
  body: Buffer
  /** False when a redirect led to another host, which has no business with our credentials. */
  sameOrigin: boolean
}

/** Sends one request and reads the whole answer, whatever its status below 500 (except 429). */
export type Send = (request: HttpRequest) => Promise<HttpAnswer>

export interface SendOptions {
  dispatcher: Dispatcher
  /** Waits before each further try, in milliseconds; its length is the number of retries. */
  backoffMs: readonly number[]
}

/** More than registries take: distribution refuses manifests over 4 MiB. */
const MAX_BODY = 4 << 20
const MAX_REDIRECTS = 5
/** A registry that asks for a longer pause is left to the queue, which tries the whole build later. */
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
 * Makes a Send that tries again after failures that pass by themselves (refused or lost connections, 429,
 * 5xx), and follows redirects without ever showing our credentials to another host.
 * It throws ConveyorError `unavailable` when the peer does not answer in the end.
 */
export function sender({ dispatcher, backoffMs }: SendOptions): Send {
  return async (req) => {
    for (let attempt = 0; ; attempt++) {
      const result = await tryOnce(req, dispatcher)
      if ('answer' in result) return result.answer
      const pause = backoffMs[attempt]
      const wait = Math.max(result.retryAfterMs ?? 0, pause ?? 0)
      if (pause === undefined || !result.transient || wait > MAX_WAIT_MS) throw unanswered(req, result)
      await sleep(wait, undefined, req.signal ? { signal: req.signal } : {}).catch(() => {
        throw req.signal?.reason
      })
    }
  }
}

interface Failure {
  reason: string
  transient: boolean
  retryAfterMs?: number | undefined
  hint?: string
  cause?: unknown
}

async function tryOnce(req: HttpRequest, dispatcher: Dispatcher): Promise<{ answer: HttpAnswer } | Failure> {
  let answer: HttpAnswer
  try {
    answer = await exchange(req, dispatcher)
  } catch (error) {
    req.signal?.throwIfAborted()
    if (error instanceof ConveyorError) throw error
    return explain(error)
  }
  const { status } = answer
  if (status !== 429 && (status < 500 || status === 501)) return { answer }
  const retryAfterMs = parseRetryAfter(answer.header('retry-after'))
  const asks = retryAfterMs ? `, asks to wait ${Math.ceil(retryAfterMs / 1000)} s` : ''
  return { reason: `HTTP ${status}${asks}`, transient: true, retryAfterMs }
}

async function exchange(req: HttpRequest, dispatcher: Dispatcher): Promise<HttpAnswer> {
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
      // By default undici gives up the connection after a HEAD, lest a broken server sends a body.
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

/** Where to go on, or null to take the redirect for the answer. Nothing with a body leaves for another host. */
function redirectTarget(req: HttpRequest, from: URL, status: number, location?: string): URL | null {
  if (![301, 302, 303, 307, 308].includes(status) || !location || !URL.canParse(location, from.href))
    return null
  const to = new URL(location, from)
  if (to.protocol !== 'https:' && (to.protocol !== 'http:' || from.protocol === 'https:')) return null
  const readOnly = req.method === 'GET' || req.method === 'HEAD'
  return readOnly || (status >= 307 && to.origin === from.origin) ? to : null
}

async function readAll(body: AsyncIterable<Buffer>, req: HttpRequest): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of body) {
    size += piece.length
    if (size > MAX_BODY) {
      throw new ConveyorError('invalid', `${req.peer} sent more than 4 MiB while ${req.purpose}`)
    }
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/** Seconds or a date, as milliseconds from now. https://www.rfc-editor.org/rfc/rfc9110#field.retry-after */
function parseRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

function explain(error: unknown): Failure {
  const { code = '', message } = firstCause(error)
  // `localhost` has two addresses; the error for both of them has a code but no message.
  const reason = message || code || 'unknown error'
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    return {
      reason: 'it does not speak TLS as expected',
      transient: false,
      cause: error,
      hint: 'Give the registry with http:// if it has no TLS',
    }
  }
  if (/CERT|SELF_SIGNED|ISSUER|ERR_TLS/.test(code)) {
    return {
      reason: `its certificate is not trusted: ${reason}`,
      transient: false,
      cause: error,
      hint: 'Point NODE_EXTRA_CA_CERTS at the certificate of its authority',
    }
  }
  if (code === 'ENOTFOUND') {
    return { reason: 'no such host', transient: false, cause: error, hint: 'Check the name of the registry' }
  }
  return { reason, transient: TRANSIENT.has(code), cause: error }
}

function firstCause(error: unknown): { code?: string; message: string } {
  if (error instanceof AggregateError && error.message === '' && error.errors.length > 0) {
    return error.errors[0] as Error
  }
  return error instanceof Error
    ? (error as NodeJS.ErrnoException as Error & { code?: string })
    : { message: String(error) }
}

function unanswered(req: HttpRequest, { reason, hint, cause }: Failure): ConveyorError {
  return new ConveyorError('unavailable', `${req.peer} does not answer (${reason}) while ${req.purpose}`, {
    hint: hint ?? 'Check that it runs and can be reached from here',
    ...(cause === undefined ? {} : { cause }),
  })
}
