import { BlockList, isIP } from 'node:net'

/** Whether a network has all addresses of its family: `0.0.0.0/0`, `::ffff:0:0/96`. */
export function isEverything(network: string): boolean {
  return parseNetwork(network)?.prefix === 0
}

/** Whether a text is an IP address, or a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8. */
export function isNetwork(text: string): boolean {
  return parseNetwork(text) !== null
}

/**
 * Returns whether an address is in one of these networks. An IPv4 address matches in its IPv6-mapped form, too; what is
 * not an address matches none.
 * @throws Error for a text that is not a network
 */
export function inNetworks(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const text of networks) {
    const network = parseNetwork(text)
    if (network === null) throw new Error(`${text} is not a network`)
    list.addSubnet(network.address, network.prefix, network.family)
  }
  return (address) => {
    const bare = unmapped(address)
    const family = isIP(bare)
    return family !== 0 && list.check(bare, family === 6 ? 'ipv6' : 'ipv4')
  }
}

interface Network {
  address: string
  prefix: number
  family: 'ipv4' | 'ipv6'
}

function parseNetwork(text: string): Network | null {
  const [address = '', length, ...rest] = text.split('/')
  const version = isIP(address)
  // With a zone, an address is one of a link, not of a network.
  if (version === 0 || rest.length > 0 || address.includes('%')) return null
  const bits = version === 6 ? 128 : 32
  const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN
  if (!(prefix <= bits)) return null
  // Of ::ffff:10.0.0.0/104, the first 96 bits say that it is IPv4.
  const mapped = unmapped(address)
  if (version === 6 && mapped !== address && prefix >= 96) {
    return { address: mapped, prefix: prefix - 96, family: 'ipv4' }
  }
  return { address, prefix, family: version === 6 ? 'ipv6' : 'ipv4' }
}

/**
 * What one client has of an address: all of IPv4, and of IPv6 the first 64 bits, as networks are not made smaller.
 * @param address as a socket shows it
 */
export function clientOf(address: string): string {
  const bare = unmapped(address)
  if (isIP(bare) !== 6) return bare
  const [before = '', after] = bare.split('::')
  const groups = before === '' ? [] : before.split(':')
  const rest = after ? after.split(':') : []
  // What `::` stands for; a last group in dots counts for two.
  const missing = after === undefined ? 0 : 8 - groups.length - rest.length - (after.includes('.') ? 1 : 0)
  const all = [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...rest]
  return `${all.slice(0, 4).join(':').toLowerCase()}::/64`
}

/** `10.1.2.3` for `::ffff:10.1.2.3`, which is what a socket for both families shows; other addresses as they are. */
function unmapped(address: string): string {
  const rest = /^::ffff:([\d.]+)$/i.exec(address)?.[1]
  return rest !== undefined && isIP(rest) === 4 ? rest : address
}
