import type { Agent, AgentOptions } from 'node:https'
import type { Duplex } from 'node:stream'
import { type HttpProxy, type Proxies, proxyFor } from './proxies.ts'

// Not imported, for the reason in client/connection.ts.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')
const tls = process.getBuiltinModule('node:tls')

const CONNECT_MS = 10_000

/** TLS connections for Node's HTTP client, through proxies. */
export function tunnelAgent(proxies: Proxies, options: AgentOptions): Agent {
  return new TunnelAgent(proxies, options)
}

/** For the AWS SDK, which uses TLS for all but local services and instance roles; undefined without a proxy. */
export function awsAgent({ proxies }: { proxies: Proxies }): Agent | undefined {
  return proxies.https ? tunnelAgent(proxies, { keepAlive: true, maxSockets: 200 }) : undefined
}

class TunnelAgent extends https.Agent {
  readonly #proxies: Proxies

  constructor(proxies: Proxies, options: AgentOptions) {
    super(options)
    this.#proxies = proxies
  }

  override createConnection(
    options: AgentOptions & { host?: string; port?: number | string },
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const name = options.host?.includes(':') ? `[${options.host}]` : options.host
    const url = new URL(`https://${name}:${options.port ?? 443}`)
    const proxy = proxyFor(url, this.#proxies)
    if (proxy === null) return super.createConnection(options, callback)
    tunnel(proxy, `${name}:${options.port ?? 443}`).then(
      (socket) => callback?.(null, tls.connect({ ...options, socket })),
      (error: Error) => callback?.(error, null as unknown as Duplex),
    )
    return undefined
  }
}

/** Opens a connection to `HOST:PORT` through the proxy: https://www.rfc-editor.org/rfc/rfc9110#CONNECT */
function tunnel(proxy: HttpProxy, target: string): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>()
  const request = (proxy.url.protocol === 'https:' ? https : http).request(proxy.url, {
    method: 'CONNECT',
    path: target,
    agent: false,
    headers: { host: target, ...proxyHeaders(proxy) },
    timeout: CONNECT_MS,
  })
  request.on('timeout', () => request.destroy(new Error(`proxy ${proxy.url.host} does not respond`)))
  request.on('error', reject)
  // Proxies that do not support CONNECT emit `response`, all others `connect`.
  request.on('response', (answer) => reject(refused(proxy, answer.statusCode)))
  request.on('connect', (answer, socket) => {
    if (answer.statusCode === 200) return resolve(socket)
    socket.destroy()
    reject(refused(proxy, answer.statusCode))
  })
  request.end()
  return promise
}

/** Additional headers for a proxy. */
export function proxyHeaders({ authorization }: HttpProxy): Record<string, string> {
  return authorization === null ? {} : { 'proxy-authorization': authorization }
}

function refused({ url }: HttpProxy, status = 0): Error {
  return new Error(
    `proxy ${url.host} answered HTTP ${status}${status === 407 ? ': it requires a login' : ''}`,
  )
}
