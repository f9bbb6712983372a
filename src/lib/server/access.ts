import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { type BasicAuth, basicAuthMatches } from '../api/basic-auth.ts'
import { isLoopback } from '../net/loopback.ts'

export interface AccessOptions {
  /**
   * Asked for on everything but webhooks, /healthz and /readyz. `none` asks nobody; null does not either, and answers
   * this machine alone.
   */
  auth: BasicAuth | 'none' | null
  /** Public base URL. */
  baseUrl: () => string
  /** More names that the server goes by: `conveyor.lan`, `*.example.com`, or `*` for any. */
  allowedHosts?: readonly string[]
}

/** Why a request is not answered, and what is to be set where somebody means it to be. */
export interface Refusal {
  status: 401 | 403
  message: string
  hint?: string
}

const SET_AUTH =
  'To be answered from elsewhere, give the server credentials: --auth user:pass (BASIC_AUTH), which `conveyor bootstrap` writes into .env; --auth none opens it to all who reach it'
const SET_HOSTS =
  'Give the server the address that people open (--url, BASE_URL), or more of its names (--allowed-hosts, ALLOWED_HOSTS)'
const OTHER_SITE = 'Requests from pages of other sites are not taken'

/**
 * Whether a request may have what the API, the logs and the pages tell; null if so.
 *
 * A page in somebody's browser reaches wherever the browser does. It can make its own name point here (DNS
 * rebinding), which the Host header gives away, or send us a form, which Origin does; `Sec-Fetch-Site` is sent
 * over https and to localhost only.
 */
export function refusalOf(request: IncomingMessage, options: AccessOptions): Refusal | null {
  const { auth } = options
  const host = parseHost(request.headers.host)
  if (auth === null) {
    const foreign = whyForeign(request, host)
    if (foreign !== null) {
      const message = `Only this machine is answered, as the server has no credentials, and ${foreign}`
      return { status: 403, message, hint: SET_AUTH }
    }
  } else if (host === null || !isKnown(host.name, options)) {
    const what =
      host === null ? 'Its own name is not in the request' : `${host.name} is not a name of this server`
    return { status: 403, message: what, hint: SET_HOSTS }
  }
  if (!isOwnPage(request, host, options)) return { status: 403, message: OTHER_SITE, hint: SET_HOSTS }
  if (auth === null || auth === 'none' || basicAuthMatches(request.headers.authorization, auth)) return null
  return { status: 401, message: 'A user name and password are needed here' }
}

/** What shows that a request is not from this machine itself; null when nothing does. */
function whyForeign({ headers, httpVersion, socket }: IncomingMessage, host: Host | null): string | null {
  const peer = socket.remoteAddress
  if (peer === undefined || !isLoopback(peer)) return `the request is from ${peer ?? 'elsewhere'}`
  if (host === null) return 'the request does not say whom it is for'
  if (!isLoopback(host.name)) return `the request is for ${host.name}`
  const sign = proxySign(headers, httpVersion)
  return sign === null ? null : `the request came through a proxy: it has ${sign}`
}

/** A proxy on this machine brings requests from anywhere. nginx asks with HTTP/1.0, whatever else it is told. */
function proxySign(headers: IncomingHttpHeaders, httpVersion: string): string | null {
  const name = Object.keys(headers).find((one) => /^(forwarded|via|x-real-ip|x-forwarded(-.*)?)$/.test(one))
  if (name !== undefined) return `the header ${name.slice(0, 60)}`
  return httpVersion === '1.0' ? 'the version HTTP/1.0' : null
}

interface Host {
  /** In lower case, without port and brackets. */
  name: string
  /** As it was sent. */
  header: string
}

function parseHost(header: string | undefined): Host | null {
  const url = header && /^[\w.:[\]-]{1,300}$/.test(header) ? URL.parse(`http://${header}`) : null
  return header && url ? { name: bare(url.hostname), header } : null
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
}

/** An address cannot be made to point elsewhere, so whoever asks for one has asked us. */
function isKnown(name: string, { baseUrl, allowedHosts = [] }: AccessOptions): boolean {
  if (isLoopback(name) || isIP(name) !== 0 || name === bare(new URL(baseUrl()).hostname)) return true
  return allowedHosts.some((allowed) => {
    const own = allowed.toLowerCase()
    return own === '*' || own === name || (own.startsWith('*.') && name.endsWith(own.slice(1)))
  })
}

/** Whether a request is of no page, or of one that is under this server's own name and port. */
function isOwnPage({ method, headers }: IncomingMessage, host: Host | null, options: AccessOptions): boolean {
  const site = headers['sec-fetch-site']
  const reads = method === 'GET' || method === 'HEAD'
  // Who follows a link to a log comes from another site.
  if (!reads && (site === 'cross-site' || site === 'same-site')) return false
  const { origin } = headers
  if (origin === undefined) return true
  const page = URL.parse(origin)
  if (page === null) return false
  // A proxy may ask with a name of its own.
  if (options.auth !== null && page.origin === new URL(options.baseUrl()).origin) return true
  // With the page's scheme, as TLS may end at a proxy: that decides which port need not be named.
  return (
    host !== null && page.host !== '' && URL.parse(`${page.protocol}//${host.header}`)?.host === page.host
  )
}
