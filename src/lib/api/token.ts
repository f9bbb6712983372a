import type { AccessToken, Scope } from '../core/access-token.ts'

/** A token as the API shows it, without its text. Times are RFC 3339 or null. */
export interface TokenJson {
  id: string
  name: string
  scope: Scope
  /** Globs of the repositories that it is for; empty for all. */
  repositories: string[]
  state: 'active' | 'expired' | 'revoked'
  created_by: string
  created_at: string
  expires_at: string | null
  /** To the minute. */
  last_used_at: string | null
}

/** A new token, with the text that is shown only once. */
export interface NewTokenJson extends TokenJson {
  token: string
}

/** The body of a request for a new token. */
export interface TokenOrderJson {
  name: string
  scope: Scope
  /** Default: all. */
  repositories?: string[]
  /** Such as `90d` or `12h`; null or absent: never. */
  expires_in?: string | null
}

export interface TokensJson {
  tokens: TokenJson[]
}

export function tokenJson(token: AccessToken): TokenJson {
  return {
    id: token.id,
    name: token.name,
    scope: token.scope,
    repositories: token.repositories,
    state: token.state,
    created_by: token.createdBy,
    created_at: token.createdAt,
    expires_at: token.expiresAt,
    last_used_at: token.lastUsedAt,
  }
}
