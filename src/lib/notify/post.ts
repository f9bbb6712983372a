import { type Dispatcher, request } from 'undici'
import { oneLine } from '../core/one-line.ts'
import { firstBytes } from '../net/bodies.ts'
import { firstCause } from '../net/first-cause.ts'
import { retryAfterMs } from '../net/retry-after.ts'

/** An answer, or why there is none. */
export interface Posted {
  /** Null without an answer. */
  status: number | null
  /** The beginning of the body, without the secrets of the URL. */
  answer: string | null
  /** Null if the receiver has accepted it (2xx). */
  error: string | null
  tookMs: number
  /** How long the receiver wants to be left alone. */
  retryAfterMs?: number
  /** Sending it again cannot help. */
  isFinal?: true
}

/** What is read of an answer, and what is kept of it, in bytes. */
const READ = 4096
const KEPT = 1024

interface PostOptions {
  headers: Record<string, string>
  dispatcher: Dispatcher
  /** For the whole exchange, in milliseconds. */
  timeoutMs: number
}

/** Sends a body as JSON, once, and follows no redirects. Never rejects. */
export async function post(
  url: URL,
  body: string,
  { headers, dispatcher, timeoutMs }: PostOptions,
): Promise<Posted> {
  const began = performance.now()
  const timeout = AbortSignal.timeout(timeoutMs)
  const tookMs = () => Math.round(performance.now() - began)
  try {
    const received = await request(url, {
      dispatcher,
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'conveyor', ...headers },
      body,
      signal: timeout,
    })
    const status = received.statusCode
    const text = await firstBytes(received.body, READ)
    const askedMs = retryAfterMs([received.headers['retry-after']].flat()[0])
    return {
      status,
      answer: cut(withoutSecrets(text, url)),
      error: problemWith(status),
      tookMs: tookMs(),
      ...(askedMs !== undefined && { retryAfterMs: askedMs }),
      ...(status === 410 && { isFinal: true as const }),
    }
  } catch (error) {
    const { code = '', message } = firstCause(error)
    const text = timeout.aborted ? `no answer within ${timeoutMs / 1000} s` : message || code
    return {
      ...{ status: null, answer: null, tookMs: tookMs() },
      error: cut(withoutSecrets(text, url)),
      ...(code === 'ERR_REFUSED_ADDRESS' && { isFinal: true as const }),
    }
  }
}

function problemWith(status: number): string | null {
  if (status >= 200 && status <= 299) return null
  const redirect = status >= 300 && status <= 399 ? ': redirects are not followed' : ''
  return `HTTP ${status}${redirect}`
}

function cut(text: string): string {
  const line = oneLine(text)
  return Buffer.from(line)
    .subarray(0, KEPT)
    .toString('utf8')
    .replace(/\ufffd$/, '')
}

/** In characters: shorter parts of a URL are words, not secrets. */
const SHORTEST_SECRET = 8

/** Answers such as `Cannot POST /hooks/PASSWORD` repeat the URL, which may contain a password. */
function withoutSecrets(text: string, url: URL): string {
  const parts = [...url.pathname.split('/'), ...url.searchParams.values()]
  const secrets = [url.href, `${url.pathname}${url.search}`, url.search, url.pathname, ...parts]
    .filter((one) => one.length >= SHORTEST_SECRET)
    .sort((a, b) => b.length - a.length)
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text)
}
