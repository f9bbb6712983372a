import type { Duplex } from 'node:stream'

/** What BuildKit is told of a session as it begins. */
export interface SessionMetadata {
  /** UUID that builds name it by. */
  id: string
  /** What stays the same from session to session: BuildKit then asks only for what changed since. */
  sharedKey: string
  /** Paths of the gRPC methods that we answer. */
  methods: string[]
}

/** A BuildKit, and the two kinds of connections that it takes. */
export interface Endpoint {
  /** How people call it: `the Docker engine`, `tcp://build-1.lan:1234`. */
  name: string
  /** What tells it from every other, also after a restart. @throws ConveyorError `unavailable` */
  id(): Promise<string>
  /** A connection on which BuildKit is the gRPC server. @throws ConveyorError `unavailable` */
  connect(signal?: AbortSignal): Promise<Duplex>
  /** A connection on which we are the gRPC server. @throws ConveyorError `unavailable` */
  attach(hello: SessionMetadata): Promise<Duplex>
}

/** Asks once, and again after a failure. */
export function cachedOnSuccess<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  return () => {
    answer ??= ask().catch((error) => {
      answer = undefined
      throw error
    })
    return answer
  }
}

/** How a session is announced: by both the engine's `POST /session` and BuildKit's Control/Session. */
export function sessionHeaders({
  id,
  sharedKey,
  methods,
}: SessionMetadata): Record<string, string | string[]> {
  return {
    'x-docker-expose-session-uuid': id,
    'x-docker-expose-session-name': 'conveyor',
    'x-docker-expose-session-sharedkey': sharedKey,
    // One header line a method.
    'x-docker-expose-session-grpc-method': methods,
  }
}
