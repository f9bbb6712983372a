import { readFileSync } from 'node:fs'
import { getCACertificates } from 'node:tls'
import { type Dispatcher, request } from 'undici'
import { guardedConnector } from '../../net/addresses.ts'
import { isUntrusted, TRUST_HINT } from '../../net/certificates.ts'
import { firstCause } from '../../net/first-cause.ts'
import type { Proxies } from '../../net/proxies.ts'
import { connections } from '../../net/proxy-dispatcher.ts'

const CONNECT_MS = 10_000
const HEADERS_MS = 30_000
/** Without any byte of the body. */
const SILENCE_MS = 60_000
const MAX_REDIRECTS = 5

interface LfsRequest {
  method: 'GET' | 'POST'
  url: URL
  /** Sent to other servers after a redirect, too. */
  headers: Record<string, string>
  /** For the server of the URL only: credentials, and whatever else a server said to send. */
  own: Record<string, string>
  body?: string
  signal: AbortSignal
}

export interface LfsResponse {
  status: number
  header(name: string): string | undefined
  /** Not read yet; whoever does not read it discards it. */
  body: Dispatcher.ResponseData['body']
}

/** Leaves a body unread; a short one, so that its connection can be used again. */
export function discard({ body }: Pick<LfsResponse, 'body'>): void {
  body.dump().catch(() => {})
}

/** There was no response, or only a part of it. */
export class NoLfsResponse extends Error {
  readonly transient: boolean
  readonly hint: string | undefined

  constructor(cause: unknown) {
    const { code = '', message } = firstCause(cause)
    super(message || code || 'unknown error', { cause })
    const untrusted = isUntrusted(cause)
    this.transient = !untrusted && code !== 'ENOTFOUND' && code !== 'ERR_REFUSED_ADDRESS'
    this.hint = untrusted ? TRUST_HINT : code === 'ERR_REFUSED_ADDRESS' ? BLOCKED : undefined
  }
}

const BLOCKED =
  'Link-local addresses are blocked, and loopback addresses are allowed only for the git server and --lfs.hosts (LFS_HOSTS)'

/** Connections to LFS servers, and to where their objects are. */
export interface LfsHttp {
  /**
   * Sends a request, and follows redirects; what is for one server alone is not sent to another one.
   * @throws NoLfsResponse, or the signal's reason
   */
  send(request: LfsRequest): Promise<LfsResponse>
  close(): Promise<void>
}

export interface LfsHttpOptions {
  proxies: Proxies
  /** Certificates to trust instead of Node's, PEM. */
  ca?: string[] | undefined
  /** Whether a server may be this machine. */
  mayBeLocal(url: URL): boolean
}

export function lfsHttp({ proxies, ca, mayBeLocal }: LfsHttpOptions): LfsHttp {
  const open = (local: boolean) =>
    connections(proxies, {
      connect: guardedConnector(local, CONNECT_MS, ca),
      headersTimeout: HEADERS_MS,
      bodyTimeout: SILENCE_MS,
    })
  const [own, others] = [open(true), open(false)]

  async function send({ method, signal, body, ...first }: LfsRequest): Promise<LfsResponse> {
    let { url } = first
    let headers = { 'user-agent': 'conveyor', ...first.headers, ...first.own }
    for (let redirects = 0; ; redirects++) {
      const { dispatcher } = mayBeLocal(url) ? own : others
      const answer = await request(url, { dispatcher, method, headers, body: body ?? null, signal }).catch(
        (error: unknown) => {
          signal.throwIfAborted()
          throw new NoLfsResponse(error)
        },
      )
      const header = (name: string) => [answer.headers[name]].flat()[0]
      const next = redirects < MAX_REDIRECTS && redirectTarget(url, answer.statusCode, header('location'))
      if (!next) return { status: answer.statusCode, header, body: answer.body }
      discard(answer)
      if (next.origin !== url.origin) headers = { 'user-agent': 'conveyor', ...first.headers }
      url = next
    }
  }

  return {
    send,
    async close() {
      await Promise.all([own.destroy(), others.destroy()])
    },
  }
}

/** Like git-lfs, keeps the method whatever the status. */
function redirectTarget(from: URL, status: number, location: string | undefined): URL | null {
  if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return null
  const to = URL.parse(location, from.href)
  return to && isAsSecure(to, from) ? to : null
}

/** Whether an address has TLS, or neither has. */
export function isAsSecure(to: URL, from: URL): boolean {
  return to.protocol === 'https:' || (to.protocol === 'http:' && from.protocol === 'http:')
}

/** Those of a file, besides Node's: git-lfs, too, trusts both. Undefined without a file. */
export function certificates(file: string | undefined): string[] | undefined {
  return file ? [...getCACertificates(), readFileSync(file, 'utf8')] : undefined
}
