import { GrpcCode, GrpcError } from '../../buildkit/grpc.ts'
import { isDockerfileStep } from '../../buildkit/step-names.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { RegistryMessage } from '../../registry/messages.ts'
import type { FailedStep } from '../step-errors.ts'

/** BuildKit's name of the step that exports and pushes images. */
const EXPORT = 'exporting to image'
/** Its errors of a push begin like this. */
const PUSH = /^(?:failed to solve: )?failed to push \S+: /

/** Whether the push failed, in a combined build and push. */
export function isPushFailure(error: unknown, failed: { name: string } | undefined): boolean {
  return failed?.name === EXPORT && PUSH.test((error as Error).message)
}

/**
 * Whether a registry rejected a push because of the compression of layers or the type of the manifest. Registries older
 * than zstd or OCI reject the manifest as a bad request or an unsupported type; distribution 2 already does so for the
 * preceding HEAD, if it cannot convert the existing image to a type the client accepts.
 */
export function isRefusedFormat(message: RegistryMessage | null): boolean {
  if (message?.kind !== 'answer') return false
  const { status } = message.answer
  return (
    (status === 400 || status === 415) &&
    /^https?:\/\/[^/]+\/v2\/.+\/manifests\/[^/]+$/.test(message.url ?? '')
  )
}

/**
 * Converts a lost connection to an `unavailable` error, unless a step had failed before: node:http2 also resets the
 * stream if the error message is not UTF-8 or contains a long Dockerfile. Returns other errors as they are.
 * @param name of the BuildKit
 */
export function connectionLost(error: unknown, name: string, failed?: FailedStep): unknown {
  if (!(error instanceof GrpcError && error.code === GrpcCode.unavailable)) return error
  if (failed && error.brokeOff && isDockerfileStep(failed.name))
    return new Error(failed.error, { cause: error })
  return new ConveyorError('unavailable', `lost the connection to ${name}: ${error.message}`, {
    cause: error,
  })
}
