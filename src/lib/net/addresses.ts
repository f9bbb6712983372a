import { type LookupAddress, lookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { buildConnector } from 'undici'
import { isLinkLocal, leadsHere } from './nearby.ts'

/**
 * Which addresses may be connected to: registry names come from Dockerfiles, servers of Git LFS from repositories, token
 * servers and redirects from other servers, and none of them are trusted. The check applies to the address of each
 * connection, as a name may resolve differently from one moment to the next.
 */

/** Connections to this address are blocked. */
class RefusedAddress extends Error {
  readonly code = 'ERR_REFUSED_ADDRESS'

  constructor(address: string) {
    super(`its address ${address} is blocked`)
  }
}

/**
 * Connects to allowed addresses only, never to link-local ones and other metadata services.
 * @param loopback whether loopback addresses are allowed
 * @param ca trusted certificates instead of Node's, PEM
 */
export function guardedConnector(
  loopback: boolean,
  timeout: number,
  ca?: string[],
): buildConnector.connector {
  const isRefused = (address: string) => isLinkLocal(address) || (!loopback && leadsHere(address))
  const lookup = lookupOf((address) => !isRefused(address))
  const connect = buildConnector({ timeout, lookup, ...(ca && { ca }) })
  return (options, callback) => {
    // An IP address is not looked up.
    const address = options.hostname.replace(/^\[|\]$/g, '')
    if (isIP(address) === 0 || !isRefused(address)) connect(options, callback)
    else queueMicrotask(() => callback(new RefusedAddress(address), null))
  }
}

/**
 * Connects to the address that was configured for a name, whatever it is; the request and the TLS certificate check keep
 * the name. Names without a configured address are left to `connect`.
 * @param addresses from `host:port` to `host:port`
 */
export function rewritingConnector(
  addresses: ReadonlyMap<string, string> | undefined,
  connect: buildConnector.connector,
  timeout: number,
): buildConnector.connector {
  const connectAnywhere = buildConnector({ timeout })
  return (options, callback) => {
    const { hostname: name, protocol } = options
    const port = options.port || (protocol === 'https:' ? '443' : '80')
    const address = addresses?.get(`${name}:${port}`)
    if (address === undefined) return connect(options, callback)
    const { hostname, port: at } = new URL(`tcp://${address}`)
    const servername = options.servername ?? (isIP(name) === 0 ? name : '')
    return connectAnywhere({ ...options, hostname, host: address, port: at, servername }, callback)
  }
}

/** Resolves a name to its allowed addresses. */
function lookupOf(isAllowed: (address: string) => boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      const [first] = found ?? []
      if (error || !first) return callback(error ?? new Error('the name has no address'), '', 0)
      const open = found.filter(({ address }) => isAllowed(address))
      const [one] = open
      if (!one) callback(new RefusedAddress(first.address), '', 0)
      else if (options.all) callback(null, open)
      else callback(null, one.address, one.family)
    })
  }
}
