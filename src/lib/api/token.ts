import { type AccessToken, SCOPES } from '../core/access/access-token.ts'
import { named, nullable, type Static, Type } from './type.ts'

const time = (description: string) =>
  Type.String({ format: 'date-time', description, examples: ['2026-03-01T12:00:00.000Z'] })

const scope = Type.Enum([...SCOPES], {
  type: 'string',
  title: 'Scope',
  description:
    '`read`: show builds and logs. `build`: also request, cancel, and retry builds. `admin`: also create and revoke tokens.',
})
const repositories = Type.Array(Type.String({ examples: ['acme/*'] }), {
  description: 'Globs of the repositories that it is for; none for all',
})
const name = Type.String({ description: 'Unique among the active tokens', examples: ['ci'] })

const PROPERTIES = {
  id: Type.String({ format: 'uuid' }),
  name,
  scope,
  repositories,
  state: Type.Enum(['active', 'expired', 'revoked'], { type: 'string', title: 'TokenState' }),
  created_by: Type.String({ description: 'User, or name of a token', examples: ['alice'] }),
  created_at: time('When it was created'),
  expires_at: nullable(time('When it stops working; null: never')),
  last_used_at: nullable(time('To the minute')),
}

export const TokenJson = named('Token', PROPERTIES, { description: 'A token for the API, without its text' })
export type TokenJson = Static<typeof TokenJson>

export const NewTokenJson = named('NewToken', {
  ...PROPERTIES,
  token: Type.String({ description: 'The text of the token, which is shown only once' }),
})
export type NewTokenJson = Static<typeof NewTokenJson>

export const TokensJson = named('Tokens', { tokens: Type.Array(TokenJson) })
export type TokensJson = Static<typeof TokensJson>

export const TokenOrderJson = named('TokenOrder', {
  name,
  scope,
  repositories: Type.Optional(repositories),
  expires_in: Type.Optional(
    nullable(
      Type.String({ description: 'Days or hours; absent or null: it never expires', examples: ['90d'] }),
    ),
  ),
})
export type TokenOrderJson = Static<typeof TokenOrderJson>

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
