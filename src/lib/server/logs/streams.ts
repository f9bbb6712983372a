import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import type { FastifyReply } from 'fastify'
import { atMost } from '../../util/lifecycle.ts'
import { describeError, sendProblem } from '../problems.ts'

/** How long open streams may take to finish when the server closes. */
const DRAIN_MS = 2000
/** How long a stream may go on after its token was revoked or expired. */
const RECHECK_MS = 5000
/** Open at a time for one user or token: each takes a connection, and often an open file. Large fleets share a token. */
const MOST_PER_READER = 2000
/** In seconds. */
const RETRY_AFTER = 10

/** The streaming responses of this server; they may stay open for hours. */
export class Streams {
  readonly #open = new Map<FastifyReply['raw'], Promise<void>>()
  /** How many are open, by the name of the identity. */
  readonly #readers = new Map<string, number>()
  readonly #log: (line: string) => void

  readonly #mostPerReader: number

  constructor(log: (line: string) => void, mostPerReader = MOST_PER_READER) {
    this.#log = log
    this.#mostPerReader = mostPerReader
  }

  /**
   * Streams `source` as the response, no faster than the client reads. The signal passed to it is aborted
   * when the client disconnects. A stream that fails is cut without its final chunk, so that no client
   * mistakes it for complete. Responds with 429 instead if the reader has too many of them.
   */
  async send(
    reply: FastifyReply,
    contentType: string,
    source: (signal: AbortSignal) => AsyncIterable<Uint8Array | string>,
  ): Promise<void> {
    const { name } = reply.request.identity
    const open = this.#readers.get(name) ?? 0
    if (open >= this.#mostPerReader) {
      const message = `${name} reads ${open} logs and events at the moment, and more are not allowed`
      sendProblem(reply.header('retry-after', RETRY_AFTER), 429, 'too_many_requests', message)
      return
    }
    this.#readers.set(name, open + 1)
    try {
      await this.#stream(reply, contentType, source)
    } finally {
      const others = (this.#readers.get(name) ?? 1) - 1
      if (others > 0) this.#readers.set(name, others)
      else this.#readers.delete(name)
    }
  }

  async #stream(
    reply: FastifyReply,
    contentType: string,
    source: (signal: AbortSignal) => AsyncIterable<Uint8Array | string>,
  ): Promise<void> {
    reply.headers({
      'content-type': contentType,
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    })
    // Fastify would send the headers with the first byte, which a quiet build may not write for minutes.
    reply.hijack()
    const response = reply.raw
    const gone = new AbortController()
    response.on('error', () => gone.abort())
    response.once('close', () => gone.abort())
    response.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string>)
    response.flushHeaders()
    if (response.destroyed) gone.abort()
    const recheck = setInterval(() => void this.#recheck(reply), RECHECK_MS)
    const done = this.#write(response, source(gone.signal), gone.signal)
    this.#open.set(response, done)
    await done
    clearInterval(recheck)
    this.#open.delete(response)
  }

  /**
   * Lets streams finish that are about to, such as those of builds that just finished. Cuts the others, and
   * resolves once nothing reads on their behalf.
   */
  async close(): Promise<void> {
    await atMost(DRAIN_MS, this.#done())
    for (const response of this.#open.keys()) response.destroy()
    await this.#done()
  }

  async #done(): Promise<void> {
    await Promise.all(this.#open.values())
  }

  /** Cuts a stream whose token is no longer valid. */
  async #recheck({ server, request, raw }: FastifyReply): Promise<void> {
    try {
      if (!(await server.stillAdmits(request))) raw.destroy()
    } catch (error) {
      this.#log(`checking the token of a stream failed: ${describeError(error)}`)
    }
  }

  /** Never rejects; `source` is released when it resolves. */
  async #write(
    response: FastifyReply['raw'],
    source: AsyncIterable<Uint8Array | string>,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      for await (const chunk of source) {
        if (!response.write(chunk)) await once(response, 'drain', { signal })
      }
      response.end()
      await finished(response)
    } catch (error) {
      if (!signal.aborted) this.#log(`streaming a response failed: ${describeError(error)}`)
      response.destroy()
    }
  }
}
