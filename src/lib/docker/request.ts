import type Dockerode from 'dockerode'
import { statusOf } from './errors.ts'

/** An engine that takes longer than this to respond, in milliseconds, does not respond at all. */
export const RESPONSE_MS = 30_000

type DialOptions = Parameters<Dockerode['modem']['dial']>[0]

interface RequestParts {
  query?: Record<string, unknown>
  body?: unknown
  auth?: Dockerode.AuthConfig | undefined
  /** Replaces RESPONSE_MS for what takes the engine longer. */
  limitMs?: number
}

/** A request that the engine responds to at once. Rejects with its error, which has a `statusCode` if it responded. */
export async function request<T>(
  docker: Dockerode,
  method: string,
  path: string,
  { query = {}, body, auth, limitMs = RESPONSE_MS }: RequestParts = {},
): Promise<T> {
  const options = { _query: query, _body: body }
  const abortSignal = AbortSignal.timeout(limitMs)
  try {
    return (await dial(docker, { path: `${path}?`, method, options, authconfig: auth, abortSignal })) as T
  } catch (error) {
    throw abortSignal.aborted && statusOf(error) === undefined ? late(limitMs, error) : error
  }
}

/** Sends any request to the engine. Rejects as `request` does. */
export function dial(docker: Dockerode, options: Record<string, unknown>): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  docker.modem.dial(
    { statusCodes: { 200: true, 201: true }, ...options } as unknown as DialOptions,
    (error, answer) => (error ? reject(error) : resolve(answer)),
  )
  return promise
}

/** The error of a request that was given up. */
export function late(limitMs: number, cause: unknown): Error {
  return new Error(`no response within ${limitMs / 1000} s`, { cause })
}
