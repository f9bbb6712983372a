import { BlockList, isIP } from 'node:net'

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/**
 * Whether a host is this machine itself: `localhost` or a loopback address (also IPv4-mapped), with or without a port.
 * @param host in lower case, as WHATWG URLs have it; IPv6 with or without brackets, with brackets before a port
 */
export function isLoopback(host: string): boolean {
  const name = withoutPort(host)
  const family = isIP(name)
  return family === 0 ? name === 'localhost' : LOOPBACK.check(name, family === 6 ? 'ipv6' : 'ipv4')
}

function withoutPort(host: string): string {
  if (isIP(host) === 6) return host
  return /^\[(.*)\](?::\d+)?$/.exec(host)?.[1] ?? host.replace(/:\d+$/, '')
}
