import type { IncomingMessage, ServerResponse } from 'node:http'

/** Bodies beyond this are logs, of which only the beginning is kept. */
const LARGEST = 1024 * 1024

/** What a server responded to a request. */
export interface Answer {
  method: string
  /** As it was requested, before the server rewrites it. */
  url: string
  /** What the client accepts. */
  accept: string
  /** Whether the request is a webhook of GitHub's. */
  isWebhook: boolean
  /** Whether the client was gone before its request was complete. */
  cutOff: boolean
  status: number
  /** Without parameters; empty if there is none. */
  type: string
  body: string
  /** Whether the body is complete. */
  whole: boolean
}

/** Records what is responded to a request; call before the server begins to. Nothing if the server never responds. */
export function recordAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  done: (answer: Answer) => void,
): void {
  const url = request.url ?? '/'
  const pieces: Buffer[] = []
  let size = 0
  const keep = (chunk: unknown, encoding: unknown) => {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) return
    const name = typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8'
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, name) : Buffer.from(chunk)
    if (size < LARGEST) pieces.push(bytes)
    size += bytes.length
  }
  let type = ''
  const { write, end, writeHead } = response
  // Headers that are passed to it are in none of the fields of the response.
  response.writeHead = ((...values: Parameters<typeof writeHead>) => {
    const headers = values.find((value) => typeof value === 'object') ?? {}
    type = String((headers as Record<string, unknown>)['content-type'] ?? '')
    return writeHead.apply(response, values)
  }) as typeof writeHead
  response.write = ((...values: Parameters<typeof write>) => {
    keep(values[0], values[1])
    return write.apply(response, values)
  }) as typeof write
  response.end = ((...values: Parameters<typeof end>) => {
    keep(values[0], values[1])
    return end.apply(response, values)
  }) as typeof end
  response.once('close', () => {
    if (!response.headersSent) return
    type ||= String(response.getHeader('content-type') ?? '')
    done({
      method: request.method ?? '',
      url,
      accept: request.headers.accept ?? '',
      isWebhook: request.method === 'POST' && request.headers['x-github-event'] !== undefined,
      cutOff: request.socket.destroyed && !request.complete,
      status: response.statusCode,
      type: type.split(';')[0] ?? '',
      body: Buffer.concat(pieces).toString('utf8'),
      whole: response.writableFinished && size <= LARGEST,
    })
  })
}
