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

/** Whether an `Authorization` header carries these credentials; takes the same time for every wrong one. */
export function basicAuthMatches(header: string | undefined, expected: BasicAuth): boolean {
  const encoded = /^basic +([A-Za-z0-9+/_-]+=*) *$/i.exec(header ?? '')?.[1] ?? ''
  const given = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = given.indexOf(':')
  const username = sameText(colon < 0 ? '' : given.slice(0, colon), expected.username)
  const password = sameText(colon < 0 ? '' : given.slice(colon + 1), expected.password)
  return colon >= 0 && username && password
}

/** Compares digests, which have the same length for any input. */
function sameText(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text, 'utf8').digest()
  return timingSafeEqual(digest(given), digest(expected))
}
