import { ConveyorError } from '../core/errors.ts'
import { untilAborted } from '../util/abort.ts'
import { basicAuth, isIdentityToken } from './auth-config.ts'
import { type HttpRequest, type HttpResponse, registryResponse, type Send } from './http.ts'
import { jsonOf, LARGEST_ANSWER } from './json.ts'
import type { CredentialStore, RegistryCredential } from './registry.ts'
import { describe, isTransient, loginHint } from './response.ts'

/** One challenge of a WWW-Authenticate header; scheme and parameter names in lower case. */
export interface Challenge {
  scheme: string
  params: Record<string, string>
}

/** An Authorization header, and its user; null for an anonymous token. */
export interface Grant {
  authorization: string
  username: string | null
  expiresAt: number
}

/** What a grant is for. */
export interface Access {
  /** Registry host, as credentials spell it. */
  host: string
  /** `repository:acme/app:pull,push`; empty to request none, whatever the registry's challenge says. */
  scope: string
  /** Whether the registry uses TLS; if so, its token server must too. */
  secure: boolean
  purpose: string
  /** Whether the registry, and thus its token server, may have a loopback address. */
  local: boolean
}

export interface RegistryAuth {
  /** The grant of an earlier request for this access, until it expires. */
  known(access: Access): Grant | null
  /**
   * Responds to the challenges of a 401. Null if that is impossible: no credential, or no supported scheme.
   * Concurrent requests share one renewal.
   * @param refused the grant that was rejected
   * @param signal ends the wait for the token server, with its reason
   * @throws ConveyorError `unauthorized` if the token server rejects the credential
   */
  answer(
    access: Access,
    challenges: Challenge[],
    refused: Grant | null,
    signal?: AbortSignal,
  ): Promise<Grant | null>
  /** Drops a grant, so that the next request starts from the credential. */
  drop(access: Access): void
}

const MAX_GRANTS = 1000
/** https://distribution.github.io/distribution/spec/auth/token/ defaults to 60 s. */
const DEFAULT_LIFE_S = 60

/** Keeps one grant per host and scope, and obtains a new one when a registry requires it. */
export function registryAuth(credentials: CredentialStore, send: Send): RegistryAuth {
  const grants = new Map<string, Grant>()
  const renewals = new Map<string, Promise<Grant | null>>()
  const keyOf = ({ host, scope }: Access) => `${host} ${scope}`

  function known(access: Access): Grant | null {
    const grant = grants.get(keyOf(access))
    return grant && grant.expiresAt > Date.now() ? grant : null
  }

  async function obtain(access: Access, challenges: Challenge[]): Promise<Grant | null> {
    const bearer = challenges.find(({ scheme, params }) => scheme === 'bearer' && params.realm)
    const basic = challenges.find(({ scheme }) => scheme === 'basic')
    if (!bearer && !basic) return null
    const credential = await credentials.forHost(access.host)
    if (bearer) return await fetchToken(access, bearer, credential, send)
    // Identity tokens are for token servers only.
    if (!credential || isIdentityToken(credential)) return null
    return { authorization: basicAuth(credential), username: credential.username, expiresAt: Infinity }
  }

  /** Bounded, as Dockerfiles may name any number of registries. */
  function keep(key: string, grant: Grant): void {
    grants.delete(key)
    grants.set(key, grant)
    for (const [oldest] of grants) {
      if (grants.size <= MAX_GRANTS) break
      grants.delete(oldest)
    }
  }

  return {
    known,
    async answer(access, challenges, refused, signal) {
      const current = known(access)
      if (current && current !== refused) return current
      const key = keyOf(access)
      const renewal = renewals.get(key) ?? obtain(access, challenges).finally(() => renewals.delete(key))
      renewals.set(key, renewal)
      const grant = await untilAborted(renewal, signal)
      if (grant) keep(key, grant)
      return grant
    },
    drop(access) {
      grants.delete(keyOf(access))
    },
  }
}

async function fetchToken(
  access: Access,
  challenge: Challenge,
  credential: RegistryCredential | null,
  send: Send,
): Promise<Grant> {
  const { realm = '', service } = challenge.params
  const scope = access.scope && (challenge.params.scope ?? access.scope)
  const url = tokenUrl(realm, access)
  const peer = `token server ${url.host}`
  const about = { purpose: access.purpose, local: access.local }
  const query = new URLSearchParams(service === undefined ? {} : { service })

  const requestedAt = Date.now()
  let answer: HttpResponse
  if (credential && isIdentityToken(credential)) {
    if (scope) query.set('scope', scope)
    query.set('client_id', 'conveyor')
    query.set('grant_type', 'refresh_token')
    query.set('refresh_token', credential.password)
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    answer = await send({
      method: 'POST',
      url,
      headers,
      body: query.toString(),
      peer,
      ...about,
    })
  } else {
    for (const one of scope.split(' ').filter(Boolean)) query.append('scope', one)
    if (credential) query.set('account', credential.username)
    for (const [name, value] of query) url.searchParams.append(name, value)
    const headers: HttpRequest['headers'] = credential ? { authorization: basicAuth(credential) } : {}
    answer = await send({ method: 'GET', url, headers, peer, ...about })
  }

  if (answer.status === 401 || answer.status === 403) {
    const what = credential ? 'rejected the credentials' : 'requires a login'
    throw new ConveyorError(
      'unauthorized',
      `${peer} ${what} for registry ${access.host} while ${access.purpose}`,
      {
        hint: loginHint(access.host),
      },
    )
  }
  const { token, life } = readToken(answer)
  if (answer.status !== 200 || token === null) {
    const failure = registryResponse(answer)
    throw new ConveyorError(
      'unavailable',
      `${peer} issued no token (${describe(failure)}) for registry ${access.host} while ${access.purpose}`,
      { retryable: answer.status === 200 || isTransient(failure), retryAfterMs: failure.retryAfterMs },
    )
  }
  // Expires a tenth early, so that no token expires in transit; by our clock, which may differ from the server's.
  return {
    authorization: `Bearer ${token}`,
    username: credential?.username ?? null,
    expiresAt: requestedAt + life * 900,
  }
}

function tokenUrl(realm: string, access: Access): URL {
  const url = URL.canParse(realm) ? new URL(realm) : null
  if (!url || !(url.protocol === 'https:' || (url.protocol === 'http:' && !access.secure))) {
    const why = url ? 'a token server without TLS' : 'an invalid token server URL'
    throw new ConveyorError('invalid', `registry ${access.host} uses ${why} while ${access.purpose}`, {
      hint: 'Correct the realm in the configuration of the registry',
    })
  }
  return url
}

function readToken({ body }: HttpResponse): { token: string | null; life: number } {
  const json = jsonOf(body, LARGEST_ANSWER) as Record<string, unknown> | null | undefined
  const token = json?.token || json?.access_token
  const life = json?.expires_in
  return {
    token: typeof token === 'string' && /^[\x21-\x7e]+$/.test(token) ? token : null,
    life: typeof life === 'number' && life > 0 ? life : DEFAULT_LIFE_S,
  }
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const PART = new RegExp(
  `[\\s,]*(?:(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))|(${TOKEN}))`,
  'gy',
)

/**
 * Parses WWW-Authenticate: any number of challenges with parameters, separated by commas outside of quotes
 * (`scope="repository:a/b:pull,push"`). Anything that violates the grammar ends the list.
 */
export function parseChallenges(header: string | undefined): Challenge[] {
  const challenges: Challenge[] = []
  for (const [, name, quoted, bare, scheme] of (header ?? '').matchAll(PART)) {
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), params: {} })
    const current = challenges.at(-1)
    if (name !== undefined && current) {
      current.params[name.toLowerCase()] = quoted?.replace(/\\(.)/gs, '$1') ?? bare ?? ''
    }
  }
  return challenges
}
