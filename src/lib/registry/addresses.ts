import { type LookupAddress, lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { buildConnector } from 'undici'

/**
 * Which addresses are asked, as the names of registries come from Dockerfiles, and those of token servers and the
 * targets of redirects from registries. It is the address of each connection that counts: a name may mean another one
 * from one moment to the next.
 */

/** Where clouds tell machines who they are: 169.254.169.254, also by way of NAT64, fe80::…, and AWS's for IPv6. */
const LINK_LOCAL = blockList('169.254.0.0/16', '64:ff9b::a9fe:0/112', 'fe80::/10', 'fd00:ec2::254/128')
/** This machine; the unspecified address means it, too. */
const LOOPBACK = blockList('127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128')

/** An address that is not asked. */
class RefusedAddress extends Error {
  readonly code = 'ERR_REFUSED_ADDRESS'

  constructor(address: string) {
    super(`its address is ${address}`)
  }
}

/** Connects to what has an address that may be asked: never link-local ones. @param loopback whether this machine may be */
export function guardedConnector(loopback: boolean, timeout: number): buildConnector.connector {
  const isRefused = (address: string) => isIn(LINK_LOCAL, address) || (!loopback && isIn(LOOPBACK, address))
  const connect = buildConnector({ timeout, lookup: lookupOf((address) => !isRefused(address)) })
  return (options, callback) => {
    // Of an address, nothing is looked up.
    const address = options.hostname.replace(/^\[|\]$/g, '')
    if (isIP(address) === 0 || !isRefused(address)) connect(options, callback)
    else queueMicrotask(() => callback(new RefusedAddress(address), null))
  }
}

/**
 * Connects to the address that was set for a name, whatever address that is; the name stays that of the request, and of
 * the certificate. Names without one are for `connect`.
 * @param addresses both as `host:port`
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

/** Looks up a name; of its addresses, only those are there that may be asked. */
function lookupOf(mayBe: (address: string) => boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      const [first] = found ?? []
      if (error || !first) return callback(error ?? new Error('it has no address'), '', 0)
      const open = found.filter(({ address }) => mayBe(address))
      const [one] = open
      if (!one) callback(new RefusedAddress(first.address), '', 0)
      else if (options.all) callback(null, open)
      else callback(null, one.address, one.family)
    })
  }
}

function isIn(list: BlockList, address: string): boolean {
  // Also finds an IPv4 address that is written as one of IPv6 (::ffff:127.0.0.1).
  return isIP(address) === 6 ? list.check(address.replace(/%.*$/s, ''), 'ipv6') : list.check(address, 'ipv4')
}

function blockList(...networks: string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', prefix] = network.split('/')
    list.addSubnet(address, Number(prefix), isIP(address) === 6 ? 'ipv6' : 'ipv4')
  }
  return list
}
