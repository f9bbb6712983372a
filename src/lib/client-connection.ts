import { Agent, type Dispatcher, request } from 'undici'
import { ConveyorError, type ErrorKind } from './errors.ts'
import type { Credentials } from './server/auth.ts'
import type { Problem } from './server/problems.ts'

/** A connection that failed or broke: nothing is known to be wrong with the request itself. */
export class Dropped extends Error {
  /** Whether there was somebody at the other end. */
  readonly reached: boolean

  constructor(message: string, reached: boolean, cause?: unknown) {
    super(message, { cause })
    this.reached = reached
  }
}

/** What breaks a connection that stood; all other failures happen before there is one. */
const BREAKS = new Set([
  'ECONNRESET',
  'EPIPE',
  'UND_ERR_SOCKET',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

const CHECK_URL = 'Check the URL of the server (--url or CONVEYOR_URL), and that `conveyor server` runs there'

/** One Conveyor server, as its client sees it. */
export class Connection implements AsyncDisposable {
  /** The server's URL without any password. */
  readonly shownUrl: string
  /** Whether the server has accepted a request before. */
  #answered = false
  readonly #base: URL
  readonly #headers: Record<string, string>
  readonly #agent: Agent
  readonly #signal: AbortSignal | undefined

  constructor(url: string, auth: Credentials | null, silenceMs: number, signal: AbortSignal | undefined) {
    this.#base = parseBaseUrl(url)
    const credentials = auth ?? credentialsOf(this.#base)
    this.#base.username = this.#base.password = ''
    this.shownUrl = this.#base.href.replace(/\/$/, '')
    this.#headers = { 'user-agent': 'conveyor' }
    if (credentials) {
      const pair = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')
      this.#headers.authorization = `Basic ${pair}`
    }
    this.#agent = new Agent({
      connect: { timeout: 10_000 },
      headersTimeout: silenceMs,
      bodyTimeout: silenceMs,
    })
    this.#signal = signal
  }

  /**
   * Sends a request and returns the body of its answer, which is of type `accept`.
   * @throws Dropped when the connection failed, or a proxy says that the server is away after it was there;
   * ConveyorError with the server's message when it refuses.
   */
  async *send(
    method: 'GET' | 'POST',
    path: string,
    accept: string,
    json?: unknown,
  ): AsyncGenerator<Uint8Array> {
    try {
      const response = await request(new URL(path, this.#base), {
        method,
        dispatcher: this.#agent,
        headers: { ...this.#headers, accept, ...(json ? { 'content-type': 'application/json' } : {}) },
        body: json ? JSON.stringify(json) : null,
        signal: this.#signal ?? null,
      })
      await this.#check(response, accept)
      this.#answered = true
      yield* response.body
    } catch (error) {
      if (error instanceof ConveyorError || error instanceof Dropped) throw error
      const code = (error as NodeJS.ErrnoException).code ?? ''
      const message = (error as Error).message || code
      throw new Dropped(message, this.#answered || BREAKS.has(code), error)
    }
  }

  /** There is no server, or no more. */
  unavailable(dropped: Dropped): ConveyorError {
    const what = dropped.reached ? 'the connection to the Conveyor server' : 'no Conveyor server answers'
    const message = dropped.reached
      ? `${what} at ${this.shownUrl} was lost: ${dropped.message}`
      : `${what} at ${this.shownUrl}: ${dropped.message}`
    return new ConveyorError('unavailable', message, { hint: CHECK_URL, cause: dropped })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy()
  }

  async #check({ statusCode, headers, body }: Dispatcher.ResponseData, accept: string): Promise<void> {
    const type = String(headers['content-type'] ?? '')
    if (statusCode < 300 && type.startsWith(accept)) return
    const problem = parseProblem(await firstBytes(body, 64 * 1024))
    if (this.#answered && statusCode >= 502 && statusCode <= 504) {
      throw new Dropped(problem?.message ?? `HTTP ${statusCode}`, true)
    }
    if (problem && statusCode >= 400) {
      const hint = statusCode === 401 ? 'Check the user name and password (--auth)' : problem.hint
      throw new ConveyorError(kindOf(statusCode), problem.message, hint === undefined ? {} : { hint })
    }
    const place = headers.location ? ` and points to ${String(headers.location)}` : ''
    throw new ConveyorError(
      kindOf(statusCode),
      `${this.shownUrl} answers HTTP ${statusCode}${place}, not as a Conveyor server does`,
      { hint: CHECK_URL },
    )
  }
}

export interface ServerSentEvent {
  event: string
  data: string
}

/** No event of ours is near this long; a server that sends no line break must not fill our memory. */
const LONGEST_EVENT = 16 * 1024 * 1024

/** Parses an event stream as it arrives. Comments are skipped, and so is an event that was cut off. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  let event = 'message'
  let data: string[] = []
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LONGEST_EVENT)
      throw new ConveyorError('unavailable', 'the server sent an endless event')
    for (const line of lines.map((text) => text.replace(/\r$/, ''))) {
      const [, field, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? []
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n') }
        event = 'message'
        data = []
      } else if (field === 'event') event = value
      else if (field === 'data') data.push(value)
    }
  }
}

function parseBaseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    // It may hold a password, so it is not repeated.
    throw new ConveyorError('invalid', "the server's URL is not of the form http://host or https://host", {
      hint: 'Set --url or CONVEYOR_URL, for example to http://localhost:8080',
    })
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  url.search = url.hash = ''
  return url
}

function credentialsOf(url: URL): Credentials | null {
  if (url.username === '' && url.password === '') return null
  return { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) }
}

function kindOf(status: number): ErrorKind {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'not_found'
  return status >= 400 && status < 500 ? 'invalid' : 'unavailable'
}

function parseProblem(text: string): Problem | null {
  try {
    const value = JSON.parse(text) as Partial<Problem> | null
    return typeof value?.id === 'string' && typeof value.message === 'string' ? (value as Problem) : null
  } catch {
    return null // a proxy's page, say
  }
}

async function firstBytes(body: AsyncIterable<Uint8Array>, limit: number): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    pieces.push(piece)
    size += piece.length
    if (size >= limit) break
  }
  return Buffer.concat(pieces).toString('utf8')
}
