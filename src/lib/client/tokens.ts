import type { NewTokenJson, TokenJson, TokenOrderJson, TokensJson } from '../api/token.ts'
import { call } from './call.ts'
import type { Connection } from './connection.ts'

/** Manages the tokens of a server. */
export interface TokenClient {
  /** @throws ConveyorError `invalid` */
  create(order: TokenOrderJson): Promise<NewTokenJson>
  list(): Promise<TokenJson[]>
  /** By name or id. @throws ConveyorError `not_found` */
  revoke(key: string): Promise<TokenJson>
}

/** Over the API. @throws as Connection; ConveyorError `unavailable` if the server cannot be reached */
export function remoteTokens(connection: Connection): TokenClient {
  return {
    create: (order) => call(connection, 'POST', 'tokens', order),
    list: async () => (await call<TokensJson>(connection, 'GET', 'tokens')).tokens,
    revoke: (key) => call(connection, 'DELETE', `tokens/${encodeURIComponent(key)}`),
  }
}
