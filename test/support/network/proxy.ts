import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import type { TlsFiles } from './certificates.ts'

/** An HTTP proxy on this machine that resolves the fictional names of tests. */
export interface TestProxy extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string
  /** The requests to it: `GET http://registry.test/v2/`, `CONNECT github.test:443`. */
  readonly asked: string[]
  /** Requests without the right login, if it requires one. */
  readonly refused: string[]
}

/**
 * @param hosts `127.0.0.1:PORT` by name
 * @param login `user:password`
 */
export async function startProxy(hosts: Record<string, string>, login?: string): Promise<TestProxy> {
  const asked: string[] = []
  const refused: string[] = []
  const sockets = new Set<Duplex>()
  const wanted = login === undefined ? undefined : `Basic ${Buffer.from(login).toString('base64')}`
  const admits = ({ method, url, headers }: IncomingMessage) => {
    const right = wanted === undefined || headers['proxy-authorization'] === wanted
    ;(right ? asked : refused).push(`${method} ${url}`)
    return right
  }
  const place = (name: string): { host: string; port: number } => {
    const [host = '', port = ''] = (hosts[name] ?? '').split(':')
    return { host, port: Number(port) }
  }

  const server = createServer((incoming: IncomingMessage, response: ServerResponse) => {
    if (!admits(incoming)) return response.writeHead(407).end()
    const url = URL.parse(incoming.url ?? '')
    if (!url || hosts[url.hostname] === undefined) return response.writeHead(502).end()
    const { 'proxy-authorization': _, ...headers } = incoming.headers
    const options = {
      ...place(url.hostname),
      path: url.pathname + url.search,
      method: incoming.method,
      headers,
    }
    const onward = request(options, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    incoming.pipe(onward)
  })
  server.on('connect', (incoming: IncomingMessage, socket: Duplex) => {
    const [name = ''] = (incoming.url ?? '').split(':')
    if (!admits(incoming)) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
    if (hosts[name] === undefined) return socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    const onward = connect(place(name), () => socket.write('HTTP/1.1 200 OK\r\n\r\n'))
    join(socket, onward, sockets)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    refused,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.closeAllConnections()
      const closed = once(server, 'close')
      server.close()
      await closed
    },
  }
}

/** Connects two sockets with each other, including their ends. */
function join(socket: Duplex, onward: Duplex, open: Set<Duplex>): void {
  for (const one of [socket, onward]) {
    open.add(one)
    one.on('error', () => {}) // either side may hang up
    one.on('close', () => {
      socket.destroy()
      onward.destroy()
    })
  }
  socket.pipe(onward).pipe(socket)
}

/** TLS in front of a server without it. */
export async function startTls(files: TlsFiles, behind: string): Promise<{ host: string } & AsyncDisposable> {
  const [host = '', port = ''] = behind.split(':')
  const sockets = new Set<Duplex>()
  const options = { cert: await readFile(files.cert), key: await readFile(files.key) }
  const server = createTlsServer(options, (socket) => {
    const onward = connect({ host, port: Number(port) })
    join(socket, onward, sockets)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      const closed = once(server, 'close')
      server.close()
      await closed
    },
  }
}
