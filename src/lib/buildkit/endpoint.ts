import type { Duplex } from 'node:stream'
import { ConveyorError } from '../core/errors.ts'

/** A BuildKit that takes longer than this to tell about itself, in milliseconds, does not respond at all. */
const RESPONSE_MS = 30_000

/** Metadata that BuildKit gets when a session is opened. */
export interface SessionMetadata {
  /** UUID by which builds refer to it. */
  id: string
  /** Identifies a context across sessions, so that BuildKit requests changed files only. */
  sharedKey: string
  /** Paths of the gRPC methods that the session serves. */
  methods: string[]
}

/** A BuildKit, and the two kinds of connections that it accepts. */
export interface Endpoint {
  /** Its name in messages: `the Docker engine`, `tcp://build-1.lan:1234`. */
  name: string
  /** A unique id that survives restarts. @throws ConveyorError `unavailable` */
  id(): Promise<string>
  /** A connection on which BuildKit is the gRPC server. @throws ConveyorError `unavailable` */
  connect(signal?: AbortSignal): Promise<Duplex>
  /** A connection on which we are the gRPC server. @throws ConveyorError `unavailable` */
  attach(hello: SessionMetadata): Promise<Duplex>
}

/** The limit of a question that a BuildKit answers at once; its reason is a ConveyorError `unavailable`. */
export function responseLimit({ name }: Pick<Endpoint, 'name'>): AbortSignal {
  const limit = new AbortController()
  const why = `${name} did not respond within ${RESPONSE_MS / 1000} s`
  setTimeout(() => limit.abort(new ConveyorError('unavailable', why)), RESPONSE_MS).unref()
  return limit.signal
}

/** Caches the result of a call; a failed call is repeated the next time. */
export function cachedOnSuccess<T>(call: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined
  return () => {
    result ??= call().catch((error) => {
      result = undefined
      throw error
    })
    return result
  }
}

/** Headers that announce a session, for the engine's `POST /session` and BuildKit's Control/Session alike. */
export function sessionHeaders({
  id,
  sharedKey,
  methods,
}: SessionMetadata): Record<string, string | string[]> {
  return {
    'x-docker-expose-session-uuid': id,
    'x-docker-expose-session-name': 'conveyor',
    'x-docker-expose-session-sharedkey': sharedKey,
    // One header line per method.
    'x-docker-expose-session-grpc-method': methods,
  }
}
