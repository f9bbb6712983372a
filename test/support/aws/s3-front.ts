import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

interface S3Request {
  /** `PUT /bucket/key?query` */
  line: string
  headers: IncomingMessage['headers']
}

/**
 * What happens to a request: it is passed on; it is passed on, but the client is disconnected before the response; it
 * gets an S3 error; or it is held until this resolves to one of those.
 */
type Fate = Outcome | Promise<Outcome>
type Outcome = 'pass' | 'lose the answer' | { status: number; code: string }

/** A proxy in front of S3 or SQS. */
export interface S3Front extends AsyncDisposable {
  readonly url: string
  /** All requests so far. */
  readonly requests: S3Request[]
  /** Decides what happens to each request. Default: all pass. */
  decide: (line: string, headers: IncomingMessage['headers'], body: () => Promise<Buffer>) => Fate
  /** Headers that are not passed on, as if the server did not support them. */
  ignored: string[]
}

/** @param target `http://127.0.0.1:PORT` */
export async function startS3Front(target: string): Promise<S3Front> {
  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url, headers } = incoming
    const line = `${method} ${url}`
    front.requests.push({ line, headers })
    let whole: Promise<Buffer> | undefined
    const body = () => (whole ??= buffer(incoming))
    let fate = front.decide(line, headers, body)
    if (fate instanceof Promise) fate = await fate
    if (typeof fate === 'object') {
      incoming.resume()
      const { status, code } = fate
      // SQS uses JSON.
      const json = headers['x-amz-target'] !== undefined
      response.writeHead(status, { 'content-type': json ? 'application/x-amz-json-1.0' : 'application/xml' })
      response.end(
        json
          ? JSON.stringify({ __type: `com.amazonaws.sqs#${code}`, message: 'said the test' })
          : `<?xml version="1.0" encoding="UTF-8"?>
        <Error><Code>${code}</Code><Message>said the test</Message></Error>`,
      )
      return
    }
    const passed = Object.fromEntries(
      Object.entries(headers).filter(([name]) => !front.ignored.includes(name)),
    )
    const onward = request(target + url, { method, headers: passed })
    const answered = once(onward, 'response') as Promise<[IncomingMessage]>
    // A rejection may be sent before the whole request has been read.
    const source = whole ? Readable.from([await whole]) : incoming
    const [answer] = await Promise.race([answered, pipeline(source, onward).then(() => answered)])
    if (fate === 'lose the answer') throw new Error('lost')
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    await pipeline(answer, response)
  }
  // A connection that breaks on one side is broken on the other.
  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const front: S3Front = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    decide: () => 'pass',
    ignored: [],
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
  return front
}
