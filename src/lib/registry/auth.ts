import { ConveyorError } from '../core/errors.ts'
import { basicAuth, isIdentityToken } from './auth-config.ts'
import { type HttpRequest, type HttpResponse, registryResponse, type Send } from './http.ts'
import type { CredentialStore, RegistryCredential } from './registry.ts'
import { detail, isTransient, loginHint } from './response.ts'

/** One challenge of a WWW-Authenticate header; scheme and parameter names in lower case. */
export interface Challenge {
  scheme: string
  params: Record<string, string>
}

/** What goes into the Authorization header, and whose it is: null for an anonymous token. */
export interface Grant {
  authorization: string
  username: string | null
  expiresAt: number
}

/** What a grant is asked for. */
export interface Access {
  /** Registry host as credentials call it. */
  host: string
  /** `repository:acme/app:pull,push`; empty for none, whatever the registry names. */
  scope: string
  /** Whether the registry is spoken to over TLS: then so is its token server. */
  secure: boolean
  purpose: string
  /** Whether the registry may be on this machine: then so may its token server. */
  local: boolean
}

export interface RegistryAuth {
  /** The grant that an earlier request got for this access, while it lasts. */
  known(access: Access): Grant | null
  /**
   * Answers the challenges of a 401. Null when nothing can be said to them: no credential, or no scheme we know.
   * Requests that are refused side by side share one renewal.
   * @param refused the grant that was used and did not suffice
   * @throws ConveyorError `unauthorized` when the token server refuses the credential
   */
  answer(access: Access, challenges: Challenge[], refused: Grant | null): Promise<Grant | null>
  /** Forgets a grant, so that the next request begins with the credential again. */
  drop(access: Access): void
}

const MOST_GRANTS = 1000
/** https://distribution.github.io/distribution/spec/auth/token/ says 60 s unless told otherwise. */
const DEFAULT_LIFE_S = 60

/** Keeps one grant per host and scope, and gets a new one when a registry asks for it. */
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
    // A registry without a token server has no use for an identity token.
    if (!credential || isIdentityToken(credential)) return null
    return { authorization: basicAuth(credential), username: credential.username, expiresAt: Infinity }
  }

  /** However many registries Dockerfiles name, only so many are remembered. */
  function keep(key: string, grant: Grant): void {
    grants.delete(key)
    grants.set(key, grant)
    for (const [oldest] of grants) {
      if (grants.size <= MOST_GRANTS) break
      grants.delete(oldest)
    }
  }

  return {
    known,
    async answer(access, challenges, refused) {
      const current = known(access)
      if (current && current !== refused) return current
      const key = keyOf(access)
      const renewal = renewals.get(key) ?? obtain(access, challenges).finally(() => renewals.delete(key))
      renewals.set(key, renewal)
      const grant = await renewal
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

  const asked = Date.now()
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
    const what = credential ? 'refuses the credentials' : 'gives no token without a login'
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
    const said = registryResponse(answer)
    throw new ConveyorError(
      'unavailable',
      `${peer} gave no token (${detail(said)}) for registry ${access.host} while ${access.purpose}`,
      { retryable: answer.status === 200 || isTransient(said), retryAfterMs: said.retryAfterMs },
    )
  }
  // A tenth early, so that a token does not run out on its way; from our own clock, which may differ from theirs.
  return {
    authorization: `Bearer ${token}`,
    username: credential?.username ?? null,
    expiresAt: asked + life * 900,
  }
}

function tokenUrl(realm: string, access: Access): URL {
  const url = URL.canParse(realm) ? new URL(realm) : null
  if (!url || !(url.protocol === 'https:' || (url.protocol === 'http:' && !access.secure))) {
    const why = url ? 'a token server without TLS' : 'a token server that is not a URL'
    throw new ConveyorError('invalid', `registry ${access.host} names ${why} while ${access.purpose}`, {
      hint: 'Correct the realm in the configuration of the registry',
    })
  }
  return url
}

function readToken({ body }: HttpResponse): { token: string | null; life: number } {
  let json: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null
  try {
    json = JSON.parse(body.toString())
  } catch {
    json = null
  }
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
 * Reads WWW-Authenticate: any number of challenges with their parameters, split at commas that are not
 * inside quotes (`scope="repository:a/b:pull,push"`). What does not fit the grammar ends the list.
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
