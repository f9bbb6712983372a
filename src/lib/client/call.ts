import { ConveyorError } from '../core/errors.ts'
import { type Connection, Dropped } from './connection.ts'

/** In bytes. Responses are far smaller; a server that never stops must not fill the memory. */
const LONGEST_RESPONSE = 32 * 1024 * 1024

/**
 * Calls a route of the API that answers with JSON.
 * @throws ConveyorError with the server's message; `unavailable` if the server cannot be reached
 */
export async function call<T>(
  connection: Connection,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  json?: unknown,
): Promise<T> {
  const pieces: Uint8Array[] = []
  let size = 0
  try {
    for await (const piece of connection.send(method, path, 'application/json', json)) {
      size += piece.length
      if (size > LONGEST_RESPONSE)
        throw new ConveyorError('unavailable', 'the server sent a response that is too long')
      pieces.push(piece)
    }
  } catch (error) {
    throw error instanceof Dropped ? connection.unavailable(error) : error
  }
  return parseJson<T>(Buffer.concat(pieces).toString('utf8'))
}

/** What the server sent. @throws ConveyorError `unavailable` if it is not JSON */
export function parseJson<T>(text: string): T {
  try {
    return JSON.parse(text) as T
  } catch (cause) {
    throw new ConveyorError('unavailable', 'the server sent invalid JSON', { cause })
  }
}
