import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'

/** A TCP proxy that closes each connection after some bytes of the response. */
export async function cuttingProxy(target: () => string, bytesOf: (connection: number) => number) {
  let connections = 0
  const sockets = new Set<Socket>()
  const proxy = createTcpServer((client) => {
    let left = bytesOf(++connections)
    const upstream = connect(Number(new URL(target()).port), '127.0.0.1')
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        client.destroy()
        upstream.destroy()
        sockets.delete(socket)
      })
    }
    client.pipe(upstream)
    upstream.on('data', (piece: Buffer) => {
      const part = piece.subarray(0, left)
      left -= part.length
      client.write(part, () => {
        if (left === 0) client.destroy()
      })
    })
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      proxy.close()
      await once(proxy, 'close')
    },
  }
}

/** A server that is not Conveyor. */
export async function stranger(answer: RequestListener) {
  const http = createHttpServer(answer)
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
}
