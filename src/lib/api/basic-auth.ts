import { createHash, timingSafeEqual } from 'node:crypto'

/** A user name and password for the API: https://www.rfc-editor.org/rfc/rfc7617 */
export interface BasicAuth {
  username: string
  password: string
}

/** Value of the `Authorization` header. */
export function basicAuthHeader({ username, password }: BasicAuth): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** The user name and password in an `Authorization` header, or null. */
export function parseBasicAuth(header: string): BasicAuth | null {
  const encoded = /^basic +([A-Za-z0-9+/_-]+=*) *$/i.exec(header)?.[1] ?? ''
  const given = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = given.indexOf(':')
  return colon < 0 ? null : { username: given.slice(0, colon), password: given.slice(colon + 1) }
}

/** Whether credentials are those expected; takes the same time for every wrong one. */
export function isSameLogin(given: BasicAuth, expected: BasicAuth): boolean {
  const username = sameText(given.username, expected.username)
  const password = sameText(given.password, expected.password)
  return username && password
}

/** Compares digests, which have the same length for any input. */
function sameText(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text, 'utf8').digest()
  return timingSafeEqual(digest(given), digest(expected))
}
