import { guardedConnector } from '../net/addresses.ts'
import type { Proxies } from '../net/proxies.ts'
import { type Connections, connections } from '../net/proxy-dispatcher.ts'

const CONNECT_MS = 10_000

/** Connections to the targets of notifications, never to link-local addresses. @param local whether to loopback ones */
export function notifyConnections(proxies: Proxies, local: boolean): Connections {
  return connections(proxies, {
    connect: guardedConnector(local, CONNECT_MS),
    headersTimeout: CONNECT_MS,
    bodyTimeout: CONNECT_MS,
    keepAliveTimeout: 5000,
    connections: 4,
    maxOrigins: 1024,
  })
}
