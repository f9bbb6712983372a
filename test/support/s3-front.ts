import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

export interface S3Request {
  /** `PUT /bucket/key?query` */
  line: string
  headers: IncomingMessage['headers']
}

/**
 * What becomes of a request: it is passed on; it is, but who asked is cut off before the answer; it is held, and passed
 * on when this resolves; or it is answered with an error of S3.
 */
export type Fate = 'pass' | 'lose the answer' | Promise<unknown> | { status: number; code: string }

/** Stands before S3. */
export interface S3Front extends AsyncDisposable {
  readonly url: string
  /** All of them until now. */
  readonly requests: S3Request[]
  /** Says what becomes of each request. Default: all pass. */
  decide: (line: string) => Fate
}

/** @param target `http://127.0.0.1:PORT` */
export async function startS3Front(target: string): Promise<S3Front> {
  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url, headers } = incoming
    const line = `${method} ${url}`
    front.requests.push({ line, headers })
    const fate = front.decide(line)
    if (typeof fate === 'object' && 'code' in fate) {
      incoming.resume()
      response.writeHead(fate.status, { 'content-type': 'application/xml' })
      response.end(`<?xml version="1.0" encoding="UTF-8"?>
        <Error><Code>${fate.code}</Code><Message>said the test</Message></Error>`)
      return
    }
    if (typeof fate === 'object') await fate
    const onward = request(target + url, { method, headers })
    const answered = once(onward, 'response') as Promise<[IncomingMessage]>
    // A refusal may come before the request was read to its end.
    const [answer] = await Promise.race([answered, pipeline(incoming, onward).then(() => answered)])
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
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
  return front
}
