import { once } from 'node:events'
import type { ClientHttp2Stream } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { ConveyorError } from '../core/errors.ts'
import type { BuildkitAddress } from './address.ts'
import { cachedOnSuccess, type Endpoint, sessionHeaders } from './endpoint.ts'
import { BytesMessage, ControlService } from './gen/control.ts'
import { frame, GrpcConnection } from './grpc.ts'
import { listWorkers } from './workers.ts'

/** Certificates in PEM. BuildKit requires a client certificate. */
export interface BuildkitTls {
  ca: string | Buffer
  cert: string | Buffer
  key: string | Buffer
}

/** Time limit for connecting, in milliseconds; a node that is down may not respond at all. */
const CONNECT_MS = 5000

/** A standalone buildkitd. Sessions are tunneled through a call of its Control API. */
export function buildkitdEndpoint(name: string, address: BuildkitAddress, tls?: BuildkitTls): Endpoint {
  const connect = async (signal?: AbortSignal): Promise<Duplex> => {
    const encrypted = tls && 'host' in address
    const socket = encrypted
      ? connectTls({ ...address, ...tls, ALPNProtocols: ['h2'], servername: serverName(address.host) })
      : connectTcp(address)
    const limit = AbortSignal.timeout(CONNECT_MS)
    try {
      const ready = encrypted ? 'secureConnect' : 'connect'
      await once(socket, ready, { signal: signal ? AbortSignal.any([signal, limit]) : limit })
    } catch (error) {
      socket.destroy()
      signal?.throwIfAborted()
      const why = limit.aborted ? `no response within ${CONNECT_MS / 1000} s` : (error as Error).message
      throw new ConveyorError('unavailable', `cannot reach buildkitd at ${name}: ${why}`, {
        cause: error,
        hint: 'Check that it is running and listening there, and check --buildkit.addr and the certificates of --buildkit.tls',
      })
    }
    socket.setNoDelay(true)
    return socket
  }
  const endpoint: Endpoint = {
    name,
    id: cachedOnSuccess(async () => (await listWorkers(endpoint))[0]?.ID ?? name),
    connect,
    async attach(hello) {
      const connection = new GrpcConnection(await connect())
      const call = connection.open(ControlService.session.path, sessionHeaders(hello))
      return new Tunnel(connection, call)
    },
  }
  return endpoint
}

/** The server name for TLS (SNI), which cannot be an IP address. */
function serverName(host: string): string {
  return /^[\d.]+$|:/.test(host) ? '' : host
}

/** A byte stream inside the messages of a call, in both directions. */
class Tunnel extends Duplex {
  readonly #connection: GrpcConnection
  readonly #call: ClientHttp2Stream
  #readable = Promise.withResolvers<void>()

  constructor(connection: GrpcConnection, call: ClientHttp2Stream) {
    super()
    this.#connection = connection
    this.#call = call
    void this.#receive()
  }

  override _read(): void {
    this.#readable.resolve()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    const message = ControlService.session.requestSerialize({ data: chunk })
    if (this.#call.write(frame(message))) done()
    else this.#call.once('drain', () => done())
  }

  override _final(done: () => void): void {
    this.#call.end(() => done())
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    void this.#connection[Symbol.asyncDispose]()
    done(error)
  }

  async #receive(): Promise<void> {
    try {
      for await (const message of this.#connection.messages(this.#call, ControlService.session.path)) {
        if (this.push(BytesMessage.decode(message).data)) continue
        this.#readable = Promise.withResolvers<void>()
        await this.#readable.promise
      }
      this.push(null)
    } catch (error) {
      this.destroy(error as Error)
    }
  }
}
