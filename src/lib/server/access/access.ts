import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { type BasicAuth, basicAuthMatches } from '../../api/basic-auth.ts'
import { isLoopback } from '../../net/loopback.ts'

export interface AccessOptions {
  /**
   * Credentials required for everything except webhooks, /healthz and /readyz. `none` serves everyone; null serves only
   * requests from this machine.
   */
  auth: BasicAuth | 'none' | null
  /** Public base URL. */
  baseUrl: () => string
  /** Additional host names of the server: `conveyor.lan`, `*.example.com`, or `*` for any. */
  allowedHosts?: readonly string[]
}

/** Why a request is refused, and which option allows it. */
export interface Refusal {
  status: 401 | 403
  message: string
  hint?: string
}

const SET_AUTH =
  'To allow remote access, set a login: --auth user:pass (BASIC_AUTH); `conveyor bootstrap` writes one to .env. --auth none disables authentication'
const SET_HOSTS =
  "Set the server's public URL (--url, BASE_URL), or allow more host names (--allowed-hosts, ALLOWED_HOSTS)"
const CROSS_SITE = 'Cross-site requests are not allowed'

/**
 * Checks whether a request may use the API and read logs and pages.
 *
 * A web page can reach every server that its visitor's browser can. It can point its own host name here (DNS
 * rebinding), which the Host header reveals, or submit a form, which Origin reveals. Browsers send `Sec-Fetch-Site`
 * only over HTTPS and to localhost.
 * @returns why the request is refused, or null if it is allowed
 */
export function checkAccess(request: IncomingMessage, options: AccessOptions): Refusal | null {
  const { auth } = options
  const host = parseHost(request.headers.host)
  if (auth === null) {
    const remote = remoteSign(request, host)
    if (remote !== null) {
      const message = `Without a login, the server only accepts requests from this machine, and ${remote}`
      return { status: 403, message, hint: SET_AUTH }
    }
  } else if (host === null || !isKnownHost(host.name, options)) {
    const message =
      host === null
        ? 'The request has no valid Host header'
        : `${host.name} is not a known host name of this server`
    return { status: 403, message, hint: SET_HOSTS }
  }
  if (!isSameOrigin(request, host, options)) return { status: 403, message: CROSS_SITE, hint: SET_HOSTS }
  if (auth === null || auth === 'none' || basicAuthMatches(request.headers.authorization, auth)) return null
  return { status: 401, message: 'A user name and password are required' }
}

/** What shows that a request did not originate on this machine, or null. */
function remoteSign({ headers, httpVersion, socket }: IncomingMessage, host: Host | null): string | null {
  const peer = socket.remoteAddress
  if (peer === undefined || !isLoopback(peer)) return `this one is from ${peer ?? 'elsewhere'}`
  if (host === null) return 'this one has no valid Host header'
  if (!isLoopback(host.name)) return `this one is for the host ${host.name}`
  const sign = proxySign(headers, httpVersion)
  return sign === null ? null : `this one came through a proxy: it has ${sign}`
}

/** A proxy on this machine forwards requests from anywhere. By default, nginx sends HTTP/1.0 and adds no header. */
function proxySign(headers: IncomingHttpHeaders, httpVersion: string): string | null {
  const name = Object.keys(headers).find((key) => /^(forwarded|via|x-real-ip|x-forwarded(-.*)?)$/.test(key))
  if (name !== undefined) return `the header ${name.slice(0, 60)}`
  return httpVersion === '1.0' ? 'the protocol version HTTP/1.0' : null
}

interface Host {
  /** Lower case, without port and brackets. */
  name: string
  /** As received. */
  header: string
}

function parseHost(header: string | undefined): Host | null {
  const url = header && /^[\w.:[\]-]{1,300}$/.test(header) ? URL.parse(`http://${header}`) : null
  return header && url ? { name: bare(url.hostname), header } : null
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
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

/** Whether a request does not come from a web page, or comes from one of this server. */
function isSameOrigin(
  { method, headers }: IncomingMessage,
  host: Host | null,
  options: AccessOptions,
): boolean {
  const site = headers['sec-fetch-site']
  const reads = method === 'GET' || method === 'HEAD'
  // Links to logs may be on other sites, such as GitHub.
  if (!reads && (site === 'cross-site' || site === 'same-site')) return false
  const { origin } = headers
  if (origin === undefined) return true
  const page = URL.parse(origin)
  if (page === null) return false
  // A proxy may have replaced the Host header.
  if (options.auth !== null && page.origin === new URL(options.baseUrl()).origin) return true
  // With the page's scheme, because TLS may end at a proxy: it decides which port is the default.
  return (
    host !== null && page.host !== '' && URL.parse(`${page.protocol}//${host.header}`)?.host === page.host
  )
}
