import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import type { FastifyReply } from 'fastify'
import { atMost } from '../../util/lifecycle.ts'
import { describeError } from '../problems.ts'

/** How long the streams of a server that closes may take to their end. */
const LAST_WORDS_MS = 2000

/** The answers of this server that stream; they may stay open for hours. */
export class Streams {
  readonly #open = new Map<FastifyReply['raw'], Promise<void>>()
  readonly #log: (line: string) => void

  constructor(log: (line: string) => void) {
    this.#log = log
  }

  /**
   * Streams `source` as the answer, no faster than the client reads. The signal it is given is aborted
   * when the client goes away. A stream that breaks off is cut without its proper end, so that no client
   * takes it for whole.
   */
  async send(
    reply: FastifyReply,
    contentType: string,
    source: (signal: AbortSignal) => AsyncIterable<Uint8Array | string>,
  ): Promise<void> {
    reply.headers({
      'content-type': contentType,
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    })
    // Fastify would send the headers with the first byte only, and a quiet build has none for minutes.
    reply.hijack()
    const response = reply.raw
    const gone = new AbortController()
    response.on('error', () => gone.abort())
    response.once('close', () => gone.abort())
    response.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string>)
    response.flushHeaders()
    if (response.destroyed) gone.abort()
    const done = this.#write(response, source(gone.signal), gone.signal)
    this.#open.set(response, done)
    await done
    this.#open.delete(response)
  }

  /**
   * Lets those end that are about to, as of builds that have just ended; cuts the others, and waits until
   * nothing reads for them any more.
   */
  async close(): Promise<void> {
    await atMost(LAST_WORDS_MS, this.#done())
    for (const response of this.#open.keys()) response.destroy()
    await this.#done()
  }

  async #done(): Promise<void> {
    await Promise.all(this.#open.values())
  }

  /** Never rejects; has let go of `source` when it resolves. */
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
      if (!signal.aborted) this.#log(`a stream broke off: ${describeError(error)}`)
      response.destroy()
    }
  }
}
