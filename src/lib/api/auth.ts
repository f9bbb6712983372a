import { createHash, timingSafeEqual } from 'node:crypto'

export interface Credentials {
  username: string
  password: string
}

/** Whether an `Authorization` header carries these credentials; takes the same time for every wrong one. */
export function basicAuthMatches(header: string | undefined, expected: Credentials): boolean {
  const encoded = /^basic +([A-Za-z0-9+/_-]+=*) *$/i.exec(header ?? '')?.[1] ?? ''
  const given = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = given.indexOf(':')
  const username = sameText(colon < 0 ? '' : given.slice(0, colon), expected.username)
  const password = sameText(colon < 0 ? '' : given.slice(colon + 1), expected.password)
  return colon >= 0 && username && password
}

/** Compares digests, which have one length whatever was given. */
function sameText(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text, 'utf8').digest()
  return timingSafeEqual(digest(given), digest(expected))
}
