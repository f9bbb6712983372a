import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2'
import type { Duplex } from 'node:stream'
import { setImmediate } from 'node:timers/promises'

/** A gRPC method, as in the generated code. */
export interface Method<Request, Response> {
  path: string
  requestSerialize(value: Request): Buffer
  responseDeserialize(bytes: Buffer): Response
}

/** The status codes used here: https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
export const GrpcCode = { ok: 0, cancelled: 1, unknown: 2, unimplemented: 12, unavailable: 14 } as const

/** A call that ended with a status other than OK. */
export class GrpcError extends Error {
  override readonly name = 'GrpcError'
  readonly code: number
  /** Whether the call ended without a status: the connection was lost, or the response was malformed. */
  readonly brokeOff: boolean
  /** What it says besides, a google.rpc.Status in base64. */
  readonly details: string | undefined

  constructor(
    code: number,
    message: string,
    options: ErrorOptions & { brokeOff?: boolean; details?: string | undefined } = {},
  ) {
    super(message, options)
    this.code = code
    this.details = options.details
    this.brokeOff = options.brokeOff ?? false
  }
}

/** Larger than HTTP/2's default, so that build output never waits for a window update. */
const WINDOW = 1024 * 1024
const HEADER = 5
/** In bytes; BuildKit itself accepts messages up to 16 MiB. */
const MAX_MESSAGE = 32 * 1024 * 1024

/**
 * A gRPC client on an existing connection: a socket, TLS, or one hijacked from an HTTP request. (grpc-js only opens
 * connections itself, by address.)
 */
export class GrpcConnection implements AsyncDisposable {
  readonly #http2: ClientHttp2Session
  #lost: Error | undefined

  constructor(socket: Duplex) {
    // The URL is a placeholder, which Go's server ignores.
    this.#http2 = connect('http://buildkit', {
      createConnection: () => socket,
      settings: { initialWindowSize: WINDOW, enablePush: false },
    })
    this.#http2.on('error', (error: Error) => {
      this.#lost ??= error
    })
  }

  /** One request, one response. @throws GrpcError, or the signal's reason when it is aborted */
  async unary<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    signal?: AbortSignal,
  ): Promise<Response> {
    let answer: Response | undefined
    for await (const response of this.stream(method, request, signal)) answer = response
    if (answer === undefined) throw new GrpcError(GrpcCode.unknown, `${method.path} ended without a response`)
    return answer
  }

  /** One request, a stream of responses. Throws as `unary` does. */
  async *stream<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    signal?: AbortSignal,
  ): AsyncGenerator<Response> {
    signal?.throwIfAborted()
    const call = this.open(method.path, {})
    const abort = () => call.close(constants.NGHTTP2_CANCEL)
    signal?.addEventListener('abort', abort, { once: true })
    try {
      call.end(frame(method.requestSerialize(request)))
      for await (const message of this.messages(call, method.path)) yield read(method, message)
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
      abort()
    }
  }

  /** Starts a call; messages written to it must be framed. */
  open(path: string, metadata: Record<string, string | string[]>): ClientHttp2Stream {
    if (this.#http2.destroyed || this.#http2.closed) throw this.#connectionLost(path)
    const call = this.#http2.request({
      ...metadata,
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    // Readers of the call get this error too; without a listener, it would crash the process.
    call.on('error', () => {})
    return call
  }

  /** The messages of a call. Throws if its status is not OK. */
  async *messages(call: ClientHttp2Stream, path: string): AsyncGenerator<Buffer> {
    let headers: IncomingHttpHeaders = {}
    call.on('response', (received) => Object.assign(headers, received))
    call.on('trailers', (received) => {
      headers = { ...headers, ...received }
    })
    try {
      yield* unframe(call, path)
    } catch (error) {
      if (error instanceof GrpcError) throw error
      if (headers['grpc-status'] === undefined) throw this.#connectionLost(path, error)
    }
    const status = headers['grpc-status']
    if (status === undefined) {
      const http = Number(headers[':status'] ?? 200)
      if (http !== 200) throw new GrpcError(GrpcCode.unknown, `${path}: HTTP ${http}`)
      throw this.#connectionLost(path)
    }
    if (Number(status) !== GrpcCode.ok) {
      const details = headers['grpc-status-details-bin']
      throw new GrpcError(Number(status), decoded(headers['grpc-message'] as string | undefined), {
        details: typeof details === 'string' ? details : undefined,
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Node processes data that has already arrived in the next tick, and throws if the connection is gone by then.
    await setImmediate()
    this.#http2.destroy()
  }

  #connectionLost(path: string, cause: unknown = this.#lost): GrpcError {
    const why = this.#lost?.message ?? (cause as Error | undefined)?.message
    const message = `the connection was lost during ${path}${why ? `: ${why}` : ''}`
    return new GrpcError(GrpcCode.unavailable, message, { cause, brokeOff: true })
  }
}

/** A message on the wire: flag for no compression, length, bytes. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEADER + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, HEADER)
  return framed
}

function read<Response>({ path, responseDeserialize }: Method<never, Response>, message: Buffer): Response {
  try {
    return responseDeserialize(message)
  } catch (error) {
    throw unreadable(path, error)
  }
}

function unreadable(path: string, cause?: unknown): GrpcError {
  return new GrpcError(GrpcCode.unavailable, `malformed response to ${path}`, {
    cause,
    brokeOff: true,
  })
}

/** @throws GrpcError for a malformed message, or a compressed one, which we did not request */
async function* unframe(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = []
  let length = 0
  /** Bytes required for the next message, or its header, to be complete. */
  let needed = HEADER
  for await (const chunk of chunks) {
    pieces.push(chunk)
    length += chunk.length
    while (length >= needed) {
      const bytes = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces)
      const end = HEADER + bytes.readUInt32BE(1)
      if (bytes[0] !== 0 || end > MAX_MESSAGE) throw unreadable(path)
      if (length >= end) {
        yield bytes.subarray(HEADER, end)
        pieces = [bytes.subarray(end)]
        length -= end
        needed = HEADER
      } else {
        pieces = [bytes]
        needed = end
      }
    }
  }
}

/** Status messages are percent-encoded unless they are plain ASCII. */
function decoded(message = ''): string {
  try {
    return decodeURIComponent(message)
  } catch {
    return message
  }
}
