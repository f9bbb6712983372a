import type { IncomingMessage } from 'node:http'
import { type BasicAuth, parseBasicAuth } from '../../api/basic-auth.ts'
import { looksLikeToken } from '../../core/access/access-token.ts'
import type { AccessOptions } from './options.ts'

/** Who a request claims to be from. */
export type Credentials =
  | { kind: 'token'; text: string }
  /** A name that a trusted proxy vouches for. */
  | { kind: 'user'; name: string }
  | { kind: 'login'; login: BasicAuth | null }
  | { kind: 'none' }

/** Printable characters of any script, without line breaks and directional overrides, which could fake a log line. */
const USER_NAME = /^[^\p{C}\p{Zl}\p{Zp}]{1,100}$/u

/**
 * The credentials of a request that count. A token comes first, as nobody sends one by accident; then the user that a
 * trusted proxy names, which may pass on the login that it has checked itself; then the login.
 */
export function credentialsOf(
  { headers, socket }: IncomingMessage,
  { auth, proxies }: AccessOptions,
): Credentials {
  const { authorization = '' } = headers
  const bearer = /^bearer +(\S+) *$/i.exec(authorization)?.[1]
  const basic = parseBasicAuth(authorization)
  const token = [bearer, basic?.password].find((text) => text !== undefined && looksLikeToken(text))
  if (token !== undefined) return { kind: 'token', text: token }
  if (proxies?.login && proxies.has(socket.remoteAddress ?? '')) {
    const name = userName(headers[proxies.login.header])
    if (name !== null) return { kind: 'user', name }
  }
  // Without a login, whatever else a client sends does not matter: it may be for a proxy.
  if (auth === null || auth === 'none' || authorization === '') return { kind: 'none' }
  return { kind: 'login', login: basic }
}

/** Node reads headers as Latin-1, but proxies send UTF-8. Several values are none: it is unclear which one to believe. */
function userName(value: string | string[] | undefined): string | null {
  if (typeof value !== 'string') return null
  const name = Buffer.from(value, 'latin1').toString('utf8').trim()
  return USER_NAME.test(name) && !name.includes(', ') ? name : null
}
