import type { Agent as HttpAgent, IncomingMessage } from 'node:http'
import type { Agent as HttpsAgent } from 'node:https'
import type { Problem } from '../api/problem.ts'
import { authorizationHeader, type ServerLogin } from '../api/server-login.ts'
import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { firstBytes } from '../net/bodies.ts'
import { isUntrusted, TRUST_HINT } from '../net/certificates.ts'
import { NO_PROXIES, type Proxies, proxyFor } from '../net/proxies.ts'
import { proxyHeaders, tunnelAgent } from '../net/proxy-agent.ts'
import { percentDecoded } from '../util/percent.ts'

/** The connection failed or was lost; the request itself may be fine. */
export class Dropped extends Error {
  /** Whether a connection had been established. */
  readonly reached: boolean

  constructor(message: string, reached: boolean, cause?: unknown) {
    super(message, { cause })
    this.reached = reached
  }
}

// Importing node:http as an ES module would also load all of Node's fetch, for its WebSocket.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')

/** Error code for a server that sends nothing for too long. */
const SILENT = 'ERR_SILENT'
const CONNECT_MS = 10_000

/** Codes of errors that break an established connection; all others occur before there is one. */
const BREAKS = new Set(['ECONNRESET', 'EPIPE', SILENT])

const CHECK_LOGIN = 'Check the login or token (--auth, CONVEYOR_AUTH, or CONVEYOR_TOKEN)'
const CHECK_URL = 'Check the server URL (--url or CONVEYOR_URL), and that `conveyor server` is running there'

export interface ConnectionOptions {
  signal?: AbortSignal | undefined
  /** None by default. */
  proxies?: Proxies | undefined
  /** The path of a Unix socket to connect to instead of the host of the URL. */
  socketPath?: string | undefined
  /** Sent with each request: a W3C `traceparent`. */
  trace?: string | undefined
}

/**
 * A client's connection to a Conveyor server. Uses Node's HTTP client, because the CLI starts several times
 * faster without undici.
 */
export class Connection implements AsyncDisposable {
  /** The server's URL without credentials. */
  readonly shownUrl: string
  /** Whether the server has accepted a request before. */
  #answered = false
  readonly #base: URL
  readonly #headers: Record<string, string>
  readonly #silenceMs: number
  readonly #signal: AbortSignal | undefined
  readonly #proxies: Proxies
  readonly #socketPath: string | undefined
  readonly #agents: { http: HttpAgent; https: HttpsAgent }

  constructor(
    url: string,
    auth: ServerLogin | null,
    silenceMs: number,
    { signal, proxies = NO_PROXIES, socketPath, trace }: ConnectionOptions,
  ) {
    this.#socketPath = socketPath
    this.#proxies = proxies
    this.#agents = {
      http: new http.Agent({ keepAlive: true }),
      https: tunnelAgent(proxies, { keepAlive: true }),
    }
    this.#base = parseBaseUrl(url)
    const credentials = auth ?? credentialsOf(this.#base)
    this.#base.username = this.#base.password = ''
    this.shownUrl = socketPath ?? this.#base.href.replace(/\/$/, '')
    this.#headers = { 'user-agent': 'conveyor' }
    if (trace) this.#headers.traceparent = trace
    if (credentials) this.#headers.authorization = authorizationHeader(credentials)
    this.#silenceMs = silenceMs
    this.#signal = signal
  }

  /**
   * Sends a request and yields the body of its response, which has the content type `accept`.
   * @throws Dropped if the connection failed, or if a proxy reports that a server that worked before is down;
   * ConveyorError with the server's message if it rejects the request
   */
  async *send(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    accept: string,
    json?: unknown,
  ): AsyncGenerator<Uint8Array> {
    try {
      const response = await this.#exchange(method, path, accept, json ? JSON.stringify(json) : undefined)
      await this.#check(response, accept)
      this.#answered = true
      yield* response as AsyncIterable<Uint8Array>
    } catch (error) {
      if (error instanceof ConveyorError || error instanceof Dropped) throw error
      const code = (error as NodeJS.ErrnoException).code ?? ''
      const message = (error as Error).message || code
      throw new Dropped(message, this.#answered || BREAKS.has(code), error)
    }
  }

  /** Describes a connection that could not be established, or not again. */
  unavailable(dropped: Dropped): ConveyorError {
    const what = dropped.reached ? 'lost the connection to' : 'cannot connect to'
    const message = `${what} the Conveyor server at ${this.shownUrl}: ${dropped.message}`
    return new ConveyorError('unavailable', message, {
      hint: isUntrusted(dropped) ? TRUST_HINT : CHECK_URL,
      cause: dropped,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agents.http.destroy()
    this.#agents.https.destroy()
  }

  #exchange(
    method: string,
    path: string,
    accept: string,
    body: string | undefined,
  ): Promise<IncomingMessage> {
    const url = new URL(path, this.#base)
    const secure = url.protocol === 'https:'
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    // Over TLS, the agent opens a tunnel through the proxy.
    const proxy = secure ? null : proxyFor(url, this.#proxies)
    const first = proxy?.url ?? url
    const overTls = first.protocol === 'https:'
    const request = (overTls ? https : http).request(first, {
      method,
      ...(this.#socketPath !== undefined && { socketPath: this.#socketPath }),
      agent: overTls ? this.#agents.https : this.#agents.http,
      ...(proxy && { path: url.href }),
      headers: {
        ...this.#headers,
        ...(proxy && { host: url.host, ...proxyHeaders(proxy) }),
        accept,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      timeout: this.#silenceMs,
      ...(this.#signal ? { signal: this.#signal } : {}),
    })
    const late = setTimeout(() => request.destroy(new Error('connection timed out')), CONNECT_MS)
    const connected = () => clearTimeout(late)
    request.on('socket', (socket) => {
      // A socket that is used again would collect listeners.
      if (socket.connecting) socket.once(overTls ? 'secureConnect' : 'connect', connected)
      else connected()
    })
    request.on('timeout', () => {
      const silence = `no data received for ${this.#silenceMs / 1000} s`
      request.destroy(Object.assign(new Error(silence), { code: SILENT }))
    })
    request.on('close', connected)
    request.on('response', resolve)
    request.on('error', reject)
    request.end(body)
    return promise
  }

  async #check(response: IncomingMessage, accept: string): Promise<void> {
    const { statusCode = 0, headers } = response
    const type = headers['content-type'] ?? ''
    if (statusCode < 300 && type.startsWith(accept)) return
    const problem = parseProblem(await firstBytes(response, 64 * 1024))
    if (this.#answered && statusCode >= 502 && statusCode <= 504) {
      throw new Dropped(problem?.message ?? `HTTP ${statusCode}`, true)
    }
    if (problem && statusCode >= 400) {
      const hint = statusCode === 401 ? CHECK_LOGIN : problem.hint
      throw new ConveyorError(kindOf(statusCode), problem.message, hint === undefined ? {} : { hint })
    }
    const redirect = headers.location ? ` with a redirect to ${String(headers.location)}` : ''
    throw new ConveyorError(
      kindOf(statusCode),
      `${this.shownUrl} answered HTTP ${statusCode}${redirect}; is this a Conveyor server?`,
      { hint: CHECK_URL },
    )
  }
}

export interface ServerSentEvent {
  event: string
  data: string
}

/** In characters. Events are far shorter; a server that never sends a line break must not fill the memory. */
const LONGEST_EVENT = 16 * 1024 * 1024

/** Parses an event stream as it arrives. Skips comments, and a truncated event at the end. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder()
  /** The pieces of a line that has not ended: joined once, as there may be many. */
  let begun: string[] = []
  let event = 'message'
  let data: string[] = []
  let length = 0
  for await (const bytes of body) {
    const lines = decoder.decode(bytes, { stream: true }).split('\n')
    for (const [index, piece] of lines.entries()) {
      begun.push(piece)
      length += piece.length
      if (length > LONGEST_EVENT)
        throw new ConveyorError('unavailable', 'the server sent an event that is too long')
      // The last piece has no line break yet.
      if (index === lines.length - 1) continue
      const line = begun.join('').replace(/\r$/, '')
      begun = []
      const [, field, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? []
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n') }
        event = 'message'
        data = []
        length = 0
      } else if (field === 'event') event = value
      else if (field === 'data') data.push(value)
    }
  }
}

function parseBaseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null
  if ((url?.protocol !== 'http:' && url?.protocol !== 'https:') || /[?#]/.test(text)) {
    // The URL may contain a password, so the message does not repeat it.
    throw new ConveyorError(
      'invalid',
      'the server URL must have the form http://host[/path] or https://host[/path]',
      {
        hint: 'Set --url or CONVEYOR_URL, for example to http://localhost:8080. If the login contains /, ?, or #, set it in CONVEYOR_AUTH',
      },
    )
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return url
}

function credentialsOf(url: URL): ServerLogin | null {
  if (url.username === '' && url.password === '') return null
  return { username: percentDecoded(url.username), password: percentDecoded(url.password) }
}

function kindOf(status: number): ErrorKind {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'not_found'
  return status >= 400 && status < 500 && status !== 429 ? 'invalid' : 'unavailable'
}

function parseProblem(text: string): Problem | null {
  try {
    const value = JSON.parse(text) as Partial<Problem> | null
    const { id, message, hint } = value ?? {}
    if (typeof id !== 'string' || typeof message !== 'string') return null
    return { id, message, ...(typeof hint === 'string' && { hint }) }
  } catch {
    return null // a proxy's page, say
  }
}
