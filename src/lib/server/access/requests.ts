import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { isBehindProxy } from '../../net/behind-proxy.ts'
import { isLoopback } from '../../net/loopback.ts'
import type { AccessOptions } from './options.ts'

/**
 * Where a request comes from, and what it was sent to.
 *
 * A web page can reach every server that its visitor's browser can. It can point its own host name here (DNS
 * rebinding), which the Host header reveals, or submit a form, which Origin reveals. Browsers send `Sec-Fetch-Site`
 * only over HTTPS and to localhost.
 */

/**
 * What shows that a request did not originate on this machine, or may not have, or null.
 * @param baseUrl the server's public URL
 */
export function remoteSign(
  { headers, httpVersion, socket }: IncomingMessage,
  host: Host | null,
  baseUrl: string,
): string | null {
  const peer = socket.remoteAddress
  if (peer === undefined || !isLoopback(peer)) return `this one is from ${peer ?? 'elsewhere'}`
  if (host === null) return 'this one has no valid Host header'
  if (!isLoopback(host.name)) return `this one is for the host ${host.name}`
  const sign = proxySign(headers, httpVersion)
  if (sign !== null) return `this one came through a proxy: it has ${sign}`
  return isBehindProxy(baseUrl) ? `this one may have come through the proxy that serves ${baseUrl}` : null
}

/** A proxy on this machine forwards requests from anywhere. nginx before 1.29.7 sends HTTP/1.0 by default. */
function proxySign(headers: IncomingHttpHeaders, httpVersion: string): string | null {
  const name = Object.keys(headers).find((key) => /^(forwarded|via|x-real-ip|x-forwarded(-.*)?)$/.test(key))
  if (name !== undefined) return `the header ${name.slice(0, 60)}`
  return httpVersion === '1.0' ? 'the protocol version HTTP/1.0' : null
}

export interface Host {
  /** Lower case, without port and brackets. */
  name: string
  /** As received. */
  header: string
}

export function parseHost(header: string | undefined): Host | null {
  const url = header && /^[\w.:[\]-]{1,300}$/.test(header) ? URL.parse(`http://${header}`) : null
  return header && url ? { name: bare(url.hostname), header } : null
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
}

/** What is wrong with the host that a request is for, or null. */
export function unknownHost(host: Host | null, options: AccessOptions): string | null {
  if (host === null) return 'The request has no valid Host header'
  return isKnownHost(host.name, options) ? null : `${host.name} is not a known host name of this server`
}

/** An IP address cannot be rebound by DNS, so any address is accepted. */
function isKnownHost(name: string, { baseUrl, allowedHosts = [] }: AccessOptions): boolean {
  if (isLoopback(name) || isIP(name) !== 0 || name === bare(new URL(baseUrl()).hostname)) return true
  return allowedHosts.some((allowed) => {
    const pattern = allowed.toLowerCase()
    return (
      pattern === '*' || pattern === name || (pattern.startsWith('*.') && name.endsWith(pattern.slice(1)))
    )
  })
}

/**
 * Whether a request does not come from a web page, or comes from one of this server.
 * @param hasSession whether a cookie says who sends it. Browsers add cookies by themselves, and an Origin to whatever
 * changes something, so that it must have one.
 */
export function isSameOrigin(
  { method, headers }: IncomingMessage,
  host: Host | null,
  options: AccessOptions,
  hasSession = false,
): boolean {
  const site = headers['sec-fetch-site']
  const reads = method === 'GET' || method === 'HEAD'
  // Links to logs may be on other sites, such as GitHub.
  if (!reads && (site === 'cross-site' || site === 'same-site')) return false
  const { origin } = headers
  if (origin === undefined) return reads || !hasSession
  const page = URL.parse(origin)
  if (page === null) return false
  // A proxy may have replaced the Host header.
  if ((options.auth !== null || hasSession) && page.origin === new URL(options.baseUrl()).origin) return true
  // With the page's scheme, because TLS may end at a proxy: it decides which port is the default.
  return (
    host !== null && page.host !== '' && URL.parse(`${page.protocol}//${host.header}`)?.host === page.host
  )
}
