import type { ServiceDefinition, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js'
import { status } from '@grpc/grpc-js'

/**
 * Methods of moby.filesync.v1.Auth for clients that fetch tokens themselves. We do not, so BuildKit requests credentials
 * instead. The methods are implemented because grpc-js (1.14) crashes the process if a caller is gone when it responds
 * to an unknown method.
 */
const NAMES = ['FetchToken', 'GetTokenAuthority', 'VerifyTokenAuthority']

const bytes = (value: Buffer) => value

/** Their definitions. */
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

/** Their handlers: unimplemented. */
export const NO_TOKENS: UntypedServiceImplementation = Object.fromEntries(
  NAMES.map((name) => [name, unimplemented]),
)
