import type { ServiceDefinition, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js'
import { status } from '@grpc/grpc-js'

/**
 * Methods of moby.filesync.v1.Auth with which BuildKit asks whether its client fetches tokens by itself. We do
 * not: it asks for credentials then. They are answered here, as grpc-js ends the process when a caller has
 * already gone as it answers a method that it does not know (1.14).
 */
const NAMES = ['FetchToken', 'GetTokenAuthority', 'VerifyTokenAuthority']

const bytes = (value: Buffer) => value

/** How they are called. */
export const TOKEN_METHODS: ServiceDefinition = Object.fromEntries(
  NAMES.map((name) => [
    name,
    {
      path: `/moby.filesync.v1.Auth/${name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    },
  ]),
)

const unimplemented = (_call: unknown, done: sendUnaryData<Buffer>) =>
  done({ code: status.UNIMPLEMENTED, details: 'tokens are fetched by BuildKit' })

/** What they answer. */
export const NO_TOKENS: UntypedServiceImplementation = Object.fromEntries(
  NAMES.map((name) => [name, unimplemented]),
)
