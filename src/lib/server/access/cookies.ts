import type { IncomingMessage } from 'node:http'

/** Cookies are bound to this one host with `__Host-`, which browsers accept only with `Secure`, and so not over http. */
function nameOf(name: string, baseUrl: string): string {
  return isSecure(baseUrl) ? `__Host-${name}` : name
}

function isSecure(baseUrl: string): boolean {
  return baseUrl.startsWith('https:')
}

/** The value of a cookie of a request; null without one. The first counts: browsers send that of the longest path first. */
export function readCookie({ headers }: IncomingMessage, name: string, baseUrl: string): string | null {
  const prefix = `${nameOf(name, baseUrl)}=`
  const pairs = (headers.cookie ?? '').split(';').map((pair) => pair.trim())
  return pairs.find((pair) => pair.startsWith(prefix))?.slice(prefix.length) ?? null
}

/**
 * A Set-Cookie header. Lax: the cookie comes along when somebody follows a link from GitHub, but with no request that
 * another site makes.
 * @param value of letters, digits, `-`, `_` and `.`
 * @param lifeSeconds 0 removes the cookie
 */
export function cookieHeader(name: string, value: string, lifeSeconds: number, baseUrl: string): string {
  const secure = isSecure(baseUrl) ? '; Secure' : ''
  return `${nameOf(name, baseUrl)}=${value}; Path=/; Max-Age=${lifeSeconds}; HttpOnly; SameSite=Lax${secure}`
}
