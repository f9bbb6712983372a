import { ConveyorError } from '../../core/errors.ts'
import { oneLine } from '../../core/one-line.ts'
import { wholeBody } from '../../net/bodies.ts'
import { retryAfterMs } from '../../net/retry-after.ts'
import { retry } from '../../util/retry.ts'
import { headersOf, parsed, record, usableUntil } from './answers.ts'
import { below } from './endpoint.ts'
import { discard, isAsSecure, type LfsHttp, type LfsResponse, NoLfsResponse } from './http.ts'
import type { LfsObject } from './pointer.ts'

/** Where to get an object, or why the server has none. */
export type LfsDownload = { href: URL; headers: Record<string, string>; until: number } | LfsRefusal

interface LfsRefusal {
  /** As an HTTP status. */
  code: number
  /** One line; may be empty. */
  message: string
}

/** An LFS server, and what it has to be sent. */
export interface LfsEndpoint {
  url: URL
  /** Credentials, mostly `authorization`; empty without any. */
  headers: Record<string, string>
}

/**
 * Looks up how to reach the LFS server of a repository.
 * @param refused the answer whose credentials the server has just refused
 * @throws ConveyorError
 */
export type LfsAccess = (signal: AbortSignal, refused?: LfsEndpoint) => Promise<LfsEndpoint>

export interface LfsServerOptions {
  http: LfsHttp
  /** `github.com` */
  host: string
  access: LfsAccess
  /** `acme/app@0123456`, for errors. */
  name: string
  /** Waits before retries, in milliseconds. */
  backoffMs: readonly number[]
}

/** GitHub's limit of objects in a request. */
export const BATCH_SIZE = 100
const TYPE = 'application/vnd.git-lfs+json'
/** In bytes: 100 objects with an address and headers of 8 KiB each fit. To parse a longer one could block for long. */
const MAX_ANSWER = 1 << 20
/** If a server requests a longer wait, the queue retries the whole build later. */
const MAX_WAIT_MS = 15_000

/** A response after which a retry can succeed. */
class Transient extends Error {
  readonly answer: LfsResponse

  constructor(answer: LfsResponse, message: string) {
    super(message)
    this.answer = answer
  }
}

/**
 * The batch API of an LFS server: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
 */
export class LfsServer {
  readonly #options: LfsServerOptions

  constructor(options: LfsServerOptions) {
    this.#options = options
  }

  /**
   * Looks up where to download objects, at most BATCH_SIZE.
   * @returns one entry by oid for each of them
   * @throws ConveyorError `unauthorized`, `not_found` (no such repository), `unavailable`
   */
  async downloads(objects: readonly LfsObject[], signal: AbortSignal): Promise<Map<string, LfsDownload>> {
    const { access, backoffMs } = this.#options
    const body = JSON.stringify({
      operation: 'download',
      transfers: ['basic'],
      objects: objects.map(({ oid, size }) => ({ oid, size })),
      hash_algo: 'sha256',
    })
    let endpoint = await access(signal)
    const attempt = async () => {
      let answer = await this.#post(body, endpoint, signal)
      if (answer.status === 401 && isAuthenticated(endpoint)) {
        const next = await access(signal, endpoint)
        if (JSON.stringify(next.headers) !== JSON.stringify(endpoint.headers)) {
          discard(answer)
          endpoint = next
          answer = await this.#post(body, endpoint, signal)
        }
      }
      const bytes = await bytesOf(answer)
      if (answer.status === 429 || answer.status >= 500) throw new Transient(answer, messageIn(bytes))
      return { answer, bytes }
    }
    const delays = (failures: number, error: unknown) => {
      const delay = backoffMs[failures - 1]
      const askedMs = error instanceof Transient ? (askedMsOf(error.answer) ?? 0) : 0
      return delay === undefined || askedMs > MAX_WAIT_MS ? undefined : Math.max(askedMs, delay)
    }
    try {
      const { answer, bytes } = await retry(attempt, { delays, isRetryable, signal })
      if (answer.status !== 200) throw this.#refused(answer, messageIn(bytes), isAuthenticated(endpoint))
      return this.#parse(bytes, objects, endpoint)
    } catch (error) {
      if (error instanceof Transient)
        throw this.#refused(error.answer, error.message, isAuthenticated(endpoint))
      throw error instanceof NoLfsResponse ? this.#silent(error) : error
    }
  }

  #post(body: string, { url, headers: own }: LfsEndpoint, signal: AbortSignal): Promise<LfsResponse> {
    const headers = { accept: TYPE, 'content-type': TYPE }
    return this.#options.http.send({
      ...{ method: 'POST', url: below(url, 'objects/batch') },
      ...{ headers, own, body, signal },
    })
  }

  #parse(bytes: Uint8Array, asked: readonly LfsObject[], endpoint: LfsEndpoint): Map<string, LfsDownload> {
    const answer = record(parsed(bytes))
    const transfer = answer.transfer ?? 'basic'
    const algorithm = answer.hash_algo ?? 'sha256'
    if (!Array.isArray(answer.objects) || transfer !== 'basic' || algorithm !== 'sha256') {
      throw new ConveyorError('unavailable', `${this.#what} sent an answer that is not one of Git LFS`, {
        hint: `Check that ${endpoint.url.href} is the address of a Git LFS server`,
        retryable: false,
      })
    }
    const found = new Map<string, LfsDownload>()
    for (const one of answer.objects.slice(0, asked.length).map(record)) {
      if (typeof one.oid === 'string') found.set(one.oid, downloadOf(one, endpoint))
    }
    const none = { code: 404, message: 'the server did not answer for it' }
    return new Map(asked.map(({ oid }) => [oid, found.get(oid) ?? none]))
  }

  get #what(): string {
    return `the Git LFS server of ${this.#options.name} at ${this.#options.host}`
  }

  #refused(answer: LfsResponse, message: string, hasLogin: boolean): ConveyorError {
    const { status } = answer
    const said = `HTTP ${status}${message && ` ${message}`}`
    if (status === 401 || status === 403) {
      return new ConveyorError(
        'unauthorized',
        `${this.#what} refused ${hasLogin ? 'the credentials' : 'a request without credentials'} (${said})`,
        {
          hint: hasLogin
            ? 'Check that the token may read the repository, and that its owner has Git LFS bandwidth left'
            : 'Set GITHUB_TOKEN for a private repository; it is sent only to the LFS server of the repository itself',
        },
      )
    }
    if (status === 404 || status === 410) {
      return new ConveyorError('not_found', `${this.#what} does not exist (${said})`, {
        hint: `Check that the git server supports Git LFS, and that the credentials have access to the repository`,
      })
    }
    const transient = status === 429 || status >= 500
    return new ConveyorError('unavailable', `${this.#what} could not say where its objects are (${said})`, {
      retryable: transient,
      retryAfterMs: transient ? askedMsOf(answer) : undefined,
    })
  }

  #silent(error: NoLfsResponse): ConveyorError {
    return new ConveyorError('unavailable', `${this.#what} does not respond (${error.message})`, {
      hint: error.hint ?? 'Check that it is reachable from this worker',
      retryable: error.transient,
      cause: error,
    })
  }
}

function isAuthenticated({ headers }: LfsEndpoint): boolean {
  return Object.keys(headers).length > 0
}

function isRetryable(error: unknown): boolean {
  return error instanceof Transient || (error instanceof NoLfsResponse && error.transient)
}

function downloadOf(one: Record<string, unknown>, endpoint: LfsEndpoint): LfsDownload {
  if (one.error !== undefined) {
    const { code, message } = record(one.error)
    return { code: Number(code) || 500, message: line(message) }
  }
  const download = record(record(one.actions).download)
  const href = typeof download.href === 'string' ? URL.parse(download.href, endpoint.url.href) : null
  if (!href || !isAsSecure(href, endpoint.url)) {
    return { code: 502, message: 'the server named no address that can be used' }
  }
  const headers = headersOf(download.header)
  // Without credentials of its own, an object on the same server is downloaded with those of the server.
  const same = href.origin === endpoint.url.origin && one.authenticated !== true
  if (same && !('authorization' in headers)) Object.assign(headers, endpoint.headers)
  return { href, headers, until: usableUntil(download) }
}

async function bytesOf({ body }: LfsResponse): Promise<Buffer> {
  const whole = await wholeBody(body, MAX_ANSWER).catch((error: unknown) => {
    throw new NoLfsResponse(error)
  })
  if (whole === null) throw new NoLfsResponse(new Error(`it sent more than ${MAX_ANSWER >> 20} MiB`))
  return whole
}

function askedMsOf({ header }: LfsResponse): number | undefined {
  return retryAfterMs(header('retry-after'))
}

/** The message of an error, as servers send it. */
function messageIn(bytes: Uint8Array): string {
  return line(record(parsed(bytes)).message)
}

function line(text: unknown): string {
  return typeof text === 'string' ? oneLine(text).slice(0, 200) : ''
}
