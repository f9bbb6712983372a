import { GrpcCode, GrpcError } from '../../buildkit/grpc.ts'
import { isDockerfileStep } from '../../buildkit/progress.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { RegistryMessage } from '../../registry/messages.ts'
import type { FailedStep } from '../step-errors.ts'

/** The step in which images are exported and pushed, as BuildKit names it. */
const EXPORT = 'exporting to image'
/** How its error begins once it pushes. */
const PUSH = /^(?:failed to solve: )?failed to push \S+: /

/** Whether it was the push that failed, of a build and push in one. */
export function isPushFailure(error: unknown, failed: { name: string } | undefined): boolean {
  return failed?.name === EXPORT && PUSH.test((error as Error).message)
}

/**
 * Whether a registry refused a push for how the layers are packed, or what its manifest is: those from before
 * zstd or OCI say of the manifest that it is a bad request, or of no known type; distribution 2 so answers the
 * HEAD before it, when it would have to turn the image that is there into one that the client takes.
 */
export function isRefusedFormat(said: RegistryMessage | null): boolean {
  if (said?.kind !== 'answer') return false
  const { status } = said.answer
  return (
    (status === 400 || status === 415) && /^https?:\/\/[^/]+\/v2\/.+\/manifests\/[^/]+$/.test(said.url ?? '')
  )
}

/**
 * A connection that ended is no result of the build, unless a step had failed before: node:http2 breaks the stream off,
 * too, where the text of an error is not UTF-8, or holds a long Dockerfile.
 * @param name of the BuildKit, for people
 */
export function connectionLost(error: unknown, name: string, failed?: FailedStep): unknown {
  if (!(error instanceof GrpcError && error.code === GrpcCode.unavailable)) return error
  if (failed && error.brokeOff && isDockerfileStep(failed.name))
    return new Error(failed.error, { cause: error })
  return new ConveyorError('unavailable', `${name} went away: ${error.message}`, { cause: error })
}
