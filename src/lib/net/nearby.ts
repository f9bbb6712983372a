import { BlockList, isIP } from 'node:net'

/** Addresses that are near a machine: what a stranger names must not lead there. */

/** Cloud metadata services are at 169.254.169.254, also through NAT64, at fe80::…, and at addresses of their own. */
const LINK_LOCAL = blockList(
  ...['169.254.0.0/16', '64:ff9b::a9fe:0/112', 'fe80::/10'],
  ...['fd00:ec2::254/128', 'fd00:ec2::23/128', 'fd20:ce::254/128'], // AWS (machines, pods), Google
  ...['168.63.129.16/32', '100.100.100.200/32'], // Azure, Alibaba
  ...['192.0.0.192/32', 'fd00:c1::a9fe:a9fe/128', 'fd00:42::42/128'], // Oracle, Scaleway
)
/** This machine; the unspecified address connects to it too. */
const LOOPBACK = blockList('127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128')

/** Whether an IP address is link-local, or that of a cloud's metadata service. */
export function isLinkLocal(address: string): boolean {
  return isIn(LINK_LOCAL, address)
}

/** Whether an IP address leads to the machine itself. */
export function leadsHere(address: string): boolean {
  return isIn(LOOPBACK, address)
}

function isIn(list: BlockList, address: string): boolean {
  // Also matches IPv4-mapped IPv6 addresses (::ffff:127.0.0.1).
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
