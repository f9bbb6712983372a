import type { NewTokenJson, TokenJson, TokenOrderJson, TokensJson } from '../api/token.ts'
import { ConveyorError } from '../core/errors.ts'
import { type Connection, Dropped } from './connection.ts'

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
  async function call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, json?: unknown): Promise<T> {
    const pieces: Uint8Array[] = []
    try {
      for await (const piece of connection.send(method, path, 'application/json', json)) pieces.push(piece)
    } catch (error) {
      throw error instanceof Dropped ? connection.unavailable(error) : error
    }
    try {
      return JSON.parse(Buffer.concat(pieces).toString('utf8')) as T
    } catch (cause) {
      throw new ConveyorError('unavailable', 'the server sent invalid JSON', { cause })
    }
  }
  return {
    create: (order) => call('POST', 'tokens', order),
    list: async () => (await call<TokensJson>('GET', 'tokens')).tokens,
    revoke: (key) => call('DELETE', `tokens/${encodeURIComponent(key)}`),
  }
}
