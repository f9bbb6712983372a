import { BlockList, isIP } from 'node:net'
import { encodedLogin, percentDecoded } from '../util/percent.ts'
import { isLinkLocal, leadsHere } from './nearby.ts'

/** The proxies from the environment, by the same rules as curl, Go and Docker. */
export interface Proxies {
  http: HttpProxy | null
  https: HttpProxy | null
  /** Hosts to connect to directly, in the format of NO_PROXY. */
  no: string
  /** Variables with proxies that only git supports, such as SOCKS. */
  unusable: string[]
}

export interface HttpProxy {
  /** Without credentials. */
  url: URL
  /** Value of `Proxy-Authorization`. */
  authorization: string | null
  /** Texts that must not appear in logs. */
  secrets: string[]
}

export const NO_PROXIES: Proxies = { http: null, https: null, no: '', unusable: [] }

/** Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; lower-case names take precedence. */
export function proxiesOf(environment: NodeJS.ProcessEnv): Proxies {
  const unusable: string[] = []
  const read = (...names: string[]): HttpProxy | null => {
    const name = names.flatMap((one) => [one.toLowerCase(), one]).find((one) => environment[one])
    const proxy = name ? parseProxy(environment[name] ?? '') : null
    if (name && proxy === null && !unusable.includes(name)) unusable.push(name)
    return proxy
  }
  return {
    http: read('HTTP_PROXY', 'ALL_PROXY'),
    https: read('HTTPS_PROXY', 'ALL_PROXY'),
    no: environment.no_proxy || environment.NO_PROXY || '',
    unusable,
  }
}

/** `[http://][USER:PASSWORD@]HOST[:PORT]`; null for anything else. */
export function parseProxy(text: string): HttpProxy | null {
  const [, scheme = 'http://', rest = ''] = /^([a-z\d+.-]+:\/\/)?(.*)$/is.exec(text.trim()) ?? []
  const at = rest.lastIndexOf('@')
  const url = URL.parse(
    `${scheme}${at < 0 ? '' : `${encodedLogin(rest.slice(0, at))}@`}${rest.slice(at + 1)}`,
  )
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === '') return null
  const pair = `${percentDecoded(url.username)}:${percentDecoded(url.password)}`
  const secrets =
    at < 0 ? [] : [percentDecoded(url.password), url.password, rest.slice(0, at)].filter(Boolean)
  return {
    url: new URL(url.origin),
    authorization: pair === ':' ? null : `Basic ${Buffer.from(pair).toString('base64')}`,
    secrets,
  }
}

/** The proxy for a URL; null for a direct connection. */
export function proxyFor(url: URL, proxies: Proxies): HttpProxy | null {
  const proxy = url.protocol === 'https:' ? proxies.https : proxies.http
  if (proxy === null) return null
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  if (host === 'localhost' || host.endsWith('.localhost')) return null
  // Names are resolved by the proxy; what is refused without one must not be reached through it.
  if (isIP(host) !== 0 && (isLinkLocal(host) || leadsHere(host))) return null
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const exempt = proxies.no
    .split(/[\s,]+/)
    .some((entry) => entry !== '' && covers(entry.toLowerCase(), host, port))
  return exempt ? null : proxy
}

/** Matches `*`, a domain and its subdomains, a host with a port, an address, or a network such as 10.0.0.0/8. */
function covers(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true
  if (entry.includes('/')) return isIn(entry, host)
  const [, bracketed, plain, of] = /^(?:\[(.+)\]|([^:]+))(?::(\d+))?$/.exec(entry) ?? []
  const name = (bracketed ?? plain ?? entry).replace(/^\*?\./, '').replace(/\.$/, '')
  if (of !== undefined && of !== port) return false
  return host === name || (isIP(host) === 0 && host.endsWith(`.${name}`))
}

function isIn(network: string, host: string): boolean {
  const [address = '', prefix = ''] = network.split('/')
  const family = isIP(address)
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(prefix)) return false
  if (Number(prefix) > (family === 4 ? 32 : 128)) return false
  const list = new BlockList()
  add(list, network)
  return list.check(host, kindOf(host))
}

function add(list: BlockList, network: string): void {
  const [address = '', prefix] = network.split('/')
  list.addSubnet(address, Number(prefix), kindOf(address))
}

function kindOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}
