import type { IncomingMessage } from 'node:http'
import { type BasicAuth, isSameLogin } from '../../api/basic-auth.ts'
import { type AccessTokens, isTokenText, scopesUpTo, tokenHash } from '../../core/access/access-token.ts'
import { type Credentials, credentialsOf } from './credentials.ts'
import { type Identity, identityWith } from './identity.ts'
import type { AccessOptions } from './options.ts'
import type { People } from './people.ts'
import { type Host, isSameOrigin, parseHost, remoteSign, unknownHost } from './requests.ts'

/** Why a request is refused, and which option allows it. */
export interface Refusal {
  status: 401 | 403 | 429
  message: string
  hint?: string
  /** For 429, in seconds. */
  retryAfter?: number
}

/** Counts the failed logins of the address that a request comes from. */
export interface FailedLogins {
  /**
   * Runs `attempt` after the other attempts from the address: of requests that one packet brings, all would be checked
   * before the first failure counts.
   */
  inTurn<T>(attempt: () => Promise<T>): Promise<T>
  /** How many seconds the address has to wait; 0 if it may try. */
  wait(): Promise<number>
  add(): Promise<void>
}

export interface AdmissionOptions extends AccessOptions {
  tokens: AccessTokens
  /** Null: nobody can sign in. */
  people: People | null
  /** The server's own log, one line at a time. */
  log: (line: string) => void
}

/** Requests from this machine, on a server without a login. They cannot create tokens, which would open it to others. */
const LOCAL = identityWith('localhost', 'build')
/** Anyone, with --auth none. */
const ANYONE = identityWith('anonymous', 'build')

const SET_AUTH =
  'To allow remote access, set a login: --auth user:pass (BASIC_AUTH); `conveyor bootstrap` writes one to .env. Or create a token: `conveyor token create`. --auth none disables authentication'
const SET_HOSTS =
  "Set the server's public URL (--url, BASE_URL), or allow more host names (--allowed-hosts, ALLOWED_HOSTS)"
const CROSS_SITE = 'Cross-site requests are not allowed'
const NEW_TOKEN = 'Create a new one with `conveyor token create`'
/** For how long it is remembered whether there are tokens. */
const TOKENS_KNOWN_MS = 5000

/** Decides who may use the API, and read logs and pages. */
export class Admission {
  readonly #options: AdmissionOptions
  #tokensExist = { known: Number.NEGATIVE_INFINITY, any: false }

  constructor(options: AdmissionOptions) {
    this.#options = options
  }

  /** Who sent a request, or why it is refused. @throws what the store throws */
  async admit(request: IncomingMessage, failed: FailedLogins): Promise<Identity | Refusal> {
    const options = this.#options
    const { auth } = options
    const host = parseHost(request.headers.host)
    const credentials = credentialsOf(request, options)
    const person = await this.#personOf(request, credentials)
    if (auth !== null || credentials.kind !== 'none' || person !== null) {
      const message = unknownHost(host, options)
      if (message !== null) return { status: 403, message, hint: SET_HOSTS }
    } else {
      const refusal = await this.#refuseRemote(request, host)
      if (refusal !== null) return refusal
    }
    if (!isSameOrigin(request, host, options, person !== null)) {
      return { status: 403, message: CROSS_SITE, hint: SET_HOSTS }
    }
    if (person !== null) return person
    switch (credentials.kind) {
      case 'token':
        return this.#holderOf(credentials.text, failed)
      case 'user':
        return identityWith(credentials.name, options.proxies?.login?.scope ?? 'read')
      case 'login':
        return failed.inTurn(() => this.#logIn(credentials.login, request, failed))
      case 'none':
        if (auth === null) return LOCAL
        if (auth === 'none') return ANYONE
        return {
          status: 401,
          message: options.people
            ? 'Sign in first, or send a token'
            : 'A user name and password, or a token, are required',
          ...this.#ignored(request),
        }
    }
  }

  /**
   * Whether a request would still be admitted, for responses that go on for long.
   * @param before as whom it was
   * @throws what the store throws
   */
  async stillAdmits(request: IncomingMessage, before: Identity): Promise<boolean> {
    const { people, tokens } = this.#options
    if (before.roles) {
      const now = (await people?.identityOf(request))?.roles
      return now !== undefined && [...before.roles.keys()].every((name) => now.has(name))
    }
    const credentials = credentialsOf(request, this.#options)
    if (credentials.kind !== 'token') return true
    return (await tokens.find(tokenHash(credentials.text)))?.state === 'active'
  }

  /** Tokens, and the users of a trusted proxy, come before sessions: nobody sends them by accident. */
  async #personOf(request: IncomingMessage, { kind }: Credentials): Promise<Identity | null> {
    if (kind === 'token' || kind === 'user') return null
    return (await this.#options.people?.identityOf(request)) ?? null
  }

  async #logIn(
    login: BasicAuth | null,
    request: IncomingMessage,
    failed: FailedLogins,
  ): Promise<Identity | Refusal> {
    const { auth } = this.#options
    const wait = await failed.wait()
    if (wait > 0) return tooMany(wait)
    if (login && auth !== null && auth !== 'none' && isSameLogin(login, auth)) {
      return identityWith(login.username, 'admin')
    }
    await failed.add()
    return { status: 401, message: 'The user name or password is wrong', ...this.#ignored(request) }
  }

  /** A right token is accepted even after failed logins from its address: nobody guesses 256 bits. */
  async #holderOf(text: string, failed: FailedLogins): Promise<Identity | Refusal> {
    const { tokens, log } = this.#options
    const token = isTokenText(text) ? await tokens.find(tokenHash(text)) : null
    if (token === null) {
      const wait = await failed.wait()
      if (wait > 0) return tooMany(wait)
      await failed.add()
      const message = isTokenText(text) ? 'The token is not valid' : 'The token is mistyped or incomplete'
      return { status: 401, message, hint: NEW_TOKEN }
    }
    if (token.state !== 'active') {
      const when = token.state === 'expired' ? `expired at ${token.expiresAt}` : 'has been revoked'
      return { status: 401, message: `The token ${token.name} ${when}`, hint: NEW_TOKEN }
    }
    // It must neither delay the request nor make it fail.
    tokens.used(token.id).catch((error: Error) => {
      log(`recording the use of the token ${token.name} failed: ${error.message}`)
    })
    const { id, name, scope } = token
    const repositories = token.repositories.length > 0 ? token.repositories : null
    return { name, token: id, scopes: scopesUpTo(scope), repositories }
  }

  /** Without a login, only this machine needs no credentials. */
  async #refuseRemote(request: IncomingMessage, host: Host | null): Promise<Refusal | null> {
    const { proxies } = this.#options
    const peer = request.socket.remoteAddress ?? ''
    const proxy = proxies?.has(peer) ? `this one came through the proxy ${peer}` : null
    const remote = remoteSign(request, host, this.#options.baseUrl()) ?? proxy
    if (remote === null) return null
    const message = `Without a login, the server only accepts requests from this machine, and ${remote}`
    const { hint = SET_AUTH } = this.#ignored(request)
    // Only a 401 makes browsers ask for a token.
    if (host !== null && unknownHost(host, this.#options) === null) {
      if (this.#options.people) return { status: 401, message: 'Sign in first, or send a token' }
      if (await this.#anyTokens()) return { status: 401, message: `A token is required. ${message}`, hint }
    }
    return { status: 403, message, hint }
  }

  /** Says that a user's name is ignored because it does not come from a trusted proxy. */
  #ignored({ headers, socket }: IncomingMessage): { hint?: string } {
    const { proxies } = this.#options
    const header = proxies?.login?.header
    if (header === undefined || headers[header] === undefined) return {}
    const peer = socket.remoteAddress ?? ''
    return {
      hint: proxies?.has(peer)
        ? `The header ${header} has to be the name of one user, in at most 100 characters`
        : `The header ${header} is believed only from the proxies in --auth.proxies (AUTH_PROXIES), and this request is from ${peer}`,
    }
  }

  async #anyTokens(): Promise<boolean> {
    const at = performance.now()
    if (at - this.#tokensExist.known > TOKENS_KNOWN_MS) {
      const found = await this.#options.tokens.list()
      this.#tokensExist = { known: at, any: found.some(({ state }) => state === 'active') }
    }
    return this.#tokensExist.any
  }
}

function tooMany(wait: number): Refusal {
  return {
    status: 429,
    message: 'Too many failed logins from this address',
    hint: `Try again in ${wait} s`,
    retryAfter: wait,
  }
}
