import { ConveyorError } from '../errors.ts'
import {
  type AccessToken,
  type AccessTokens,
  newTokenText,
  type TokenOrder,
  tokenHash,
  validNewToken,
} from './access-token.ts'

/** A new token with its text, which can never be shown again. */
export interface IssuedToken {
  token: AccessToken
  text: string
}

/** Creates a token. @throws ConveyorError `invalid`, also if an active token has its name */
export async function issueToken(
  tokens: AccessTokens,
  order: TokenOrder,
  createdBy: string,
): Promise<IssuedToken> {
  const text = newTokenText()
  const token = await tokens.create(validNewToken(order, createdBy), tokenHash(text))
  if (token !== null) return { token, text }
  throw new ConveyorError('invalid', `there is already a token named ${order.name}`, {
    field: 'name',
    hint: `Choose another name, or revoke that one first: \`conveyor token revoke ${order.name}\``,
  })
}

/** Revokes the token with this name or id. @throws ConveyorError `not_found` */
export async function revokeToken(tokens: AccessTokens, key: string): Promise<AccessToken> {
  const token = await tokens.revoke(key)
  if (token !== null) return token
  // It may be the text of a token, given by mistake.
  const shown = /^[\w.-]{1,64}$/.test(key) && !key.startsWith('cvy_') ? ` ${key}` : ' with this name or id'
  throw new ConveyorError('not_found', `there is no token${shown}`, {
    hint: '`conveyor token list` shows all of them',
  })
}
