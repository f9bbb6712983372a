import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/**
 * Forwards a free port on an address of this machine to a server on its loopback.
 * @param target `127.0.0.1:PORT`
 * @returns `host`: `ADDRESS:PORT`
 */
export async function forward(address: string, target: string): Promise<AsyncDisposable & { host: string }> {
  const [host = '', port] = target.split(':')
  const open = new Set<Socket>()
  // A client that has sent everything still needs the response.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const onward = connect({ host, port: Number(port), allowHalfOpen: true })
    client.pipe(onward).pipe(client)
    for (const [one, other] of [
      [client, onward],
      [onward, client],
    ] as const) {
      open.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => open.delete(one))
    }
  })
  server.listen(0, address)
  await once(server, 'listening')
  return {
    host: `${address}:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of open) socket.destroy()
      await once(server, 'close')
    },
  }
}
