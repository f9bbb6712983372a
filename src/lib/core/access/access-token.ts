import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { isRepositoryPattern } from '../allowed-repositories.ts'
import { ConveyorError } from '../errors.ts'

/** What a caller may do. Each scope includes those before it. */
export const SCOPES = ['read', 'build', 'admin'] as const

/**
 * - `read`: everything that is shown, except tokens.
 * - `build`: requests, cancels, and retries builds.
 * - `admin`: creates and revokes tokens.
 */
export type Scope = (typeof SCOPES)[number]

/** A scope and all that it includes. */
export function scopesUpTo(scope: Scope): readonly Scope[] {
  return SCOPES.slice(0, SCOPES.indexOf(scope) + 1)
}

export type TokenState = 'active' | 'expired' | 'revoked'

/** A token for the API, without its text. Times are ISO 8601. */
export interface AccessToken {
  /** UUID. */
  id: string
  /** Unique among the active ones. */
  name: string
  scope: Scope
  /** Globs of the repositories that it is for, such as `acme/*`; empty for all. */
  repositories: string[]
  /** By the clock of the store. */
  state: TokenState
  createdBy: string
  createdAt: string
  expiresAt: string | null
  /** To the minute; null if it has never been used. */
  lastUsedAt: string | null
}

export interface NewAccessToken extends Pick<AccessToken, 'name' | 'scope' | 'repositories' | 'createdBy'> {
  /** Null: it never expires. */
  expiresInSeconds: number | null
}

/** The tokens that a store has. It knows the hash of each (see tokenHash), never its text. */
export interface AccessTokens {
  /** Stores a token; null if an active one has its name. */
  create(token: NewAccessToken, hash: string): Promise<AccessToken | null>
  /** All that are not revoked, oldest first. */
  list(): Promise<AccessToken[]>
  /** Revokes the token with this id, or else the active one with this name; null if there is none. Accepts any string. */
  revoke(key: string): Promise<AccessToken | null>
  /** The token with this hash, whatever its state, or null. */
  find(hash: string): Promise<AccessToken | null>
  /** Records that a token was used, at most once a minute. */
  used(id: string): Promise<void>
}

const PREFIX = 'cvy_'
const RANDOM_BYTES = 32
const CHECKSUM_LENGTH = 6
const FORM = /^cvy_[\w-]{43}[0-9a-z]{6}$/
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/
const MOST_GLOBS = 50
const DAY_S = 24 * 60 * 60
const LONGEST_DAYS = 3650

/** The text of a new token: a prefix that scanners for secrets can find, 256 random bits, and a checksum. */
export function newTokenText(): string {
  const text = PREFIX + randomBytes(RANDOM_BYTES).toString('base64url')
  return text + checksum(text)
}

/** Whether a text has the form of a token; its checksum shows most typos and cut copies without a look at the store. */
export function isTokenText(text: string): boolean {
  return FORM.test(text) && checksum(text.slice(0, -CHECKSUM_LENGTH)) === text.slice(-CHECKSUM_LENGTH)
}

/** Whether a text is meant to be a token, even if it is not one. */
export function looksLikeToken(text: string): boolean {
  return text.startsWith(PREFIX)
}

/** What the store knows of a token: SHA-256 in hex, enough for 256 random bits. */
export function tokenHash(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** The last six digits of the CRC-32 in base 36. */
function checksum(text: string): string {
  return crc32(text).toString(36).slice(-CHECKSUM_LENGTH).padStart(CHECKSUM_LENGTH, '0')
}

/** What is asked for when a token is created, before it is checked. */
export interface TokenOrder {
  name: string
  scope: Scope
  repositories: readonly string[]
  /** A number of days or hours, such as `90d` or `12h`; null: never. */
  expiresIn: string | null
}

/** Checks the request for a new token. @throws ConveyorError `invalid` */
export function validNewToken(asked: TokenOrder, createdBy: string): NewAccessToken {
  const { name, scope } = asked
  const repositories = [...new Set(asked.repositories)]
  if (!NAME.test(name) || looksLikeToken(name)) {
    throw new ConveyorError('invalid', 'the name of the token is not valid', {
      field: 'name',
      hint: 'Use 1 to 64 letters, digits, dots, hyphens, and underscores, such as ci or grafana-prod',
    })
  }
  const odd = repositories.find((glob) => !isRepositoryPattern(glob))
  if (odd !== undefined) {
    throw new ConveyorError('invalid', `${JSON.stringify(odd.slice(0, 200))} does not match any repository`, {
      field: 'repositories',
      hint: 'Use OWNER/NAME with * for any characters, such as acme/*',
    })
  }
  if (repositories.length > MOST_GLOBS) {
    throw new ConveyorError('invalid', `a token can have at most ${MOST_GLOBS} repository patterns`, {
      field: 'repositories',
    })
  }
  if (scope === 'admin' && repositories.length > 0) {
    throw new ConveyorError('invalid', 'an admin token cannot be limited to repositories', {
      field: 'repositories',
      hint: 'It could create a token without the limit. Use the scope build, or leave out the repositories',
    })
  }
  return { name, scope, repositories, createdBy, expiresInSeconds: seconds(asked.expiresIn) }
}

function seconds(expiresIn: string | null): number | null {
  if (expiresIn === null) return null
  const [, number = '', unit] = /^(\d{1,5})([dh])$/.exec(expiresIn) ?? []
  const found = Number(number) * (unit === 'h' ? 3600 : DAY_S)
  if (found > 0 && found <= LONGEST_DAYS * DAY_S) return found
  throw new ConveyorError('invalid', `a token cannot expire in ${JSON.stringify(expiresIn.slice(0, 200))}`, {
    field: 'expires_in',
    hint: `Use a number of days or hours, such as 90d or 12h, and at most ${LONGEST_DAYS}d`,
  })
}
