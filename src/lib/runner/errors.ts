import { ConveyorError } from '../core/errors.ts'
import { engineDown, engineMessage, statusOf } from '../docker/errors.ts'

/** Errors of a builder image's container. */

const BOOTSTRAP = '`conveyor bootstrap`'

/** The engine does not have the image and cannot pull it. */
export function noImage(image: string, why: string, cause: unknown): ConveyorError {
  return new ConveyorError('invalid', `the builder image ${image} was not found: ${why}`, {
    cause,
    hint: `Create it with ${BOOTSTRAP}, set another one with --builder.image (BUILDER_IMAGE), or log in to its registry (docker login)`,
  })
}

/** The container could not be created. */
export function createError(error: unknown, image: string, dataContainer: string | null): ConveyorError {
  const message = engineMessage(error)
  if (statusOf(error) === undefined) return gone(error)
  if (dataContainer !== null && /no such container/i.test(message)) {
    return new ConveyorError('invalid', `the Docker engine has no container named ${dataContainer}`, {
      cause: error,
      hint: `Create it with ${BOOTSTRAP}; it holds the SSH key and registry logins of the builder image`,
    })
  }
  if (/no such image/i.test(message)) return noImage(image, message, error)
  return broken(error, message, image)
}

/** The container could not be started or followed until it exited. */
export function runError(error: unknown, image: string): ConveyorError {
  if (error instanceof ConveyorError) return error
  const status = statusOf(error)
  if (status === undefined) return gone(error)
  const message = engineMessage(error)
  if (/no such container|dead or marked for removal|is being removed/i.test(message)) return removed(error)
  return broken(error, message, image)
}

/** How a container exited. */
export interface ContainerEnd {
  Status: string
  OOMKilled: boolean
  /** Whether the engine was told to stop it. */
  killed: boolean
}

/** The container exited with a status other than 0. */
export function endError(code: number, end: ContainerEnd, image: string): ConveyorError {
  if (end.Status === 'removing' || end.Status === 'dead') return removed(undefined)
  if (end.killed) {
    return new ConveyorError('unavailable', "the build's container was stopped while it was running", {
      hint: 'Either the engine is shutting down, or someone with access to it stopped the container',
    })
  }
  const what = `the builder image ${image} exited with status ${code}`
  if (end.OOMKilled) {
    return new ConveyorError('build_failed', `${what}: it ran out of memory and was killed`, {
      hint: 'Give the engine more memory, or reduce what the build needs',
    })
  }
  return new ConveyorError('build_failed', what, { hint: 'See the end of the build log' })
}

/** The engine did not respond. */
export function gone(error: unknown): ConveyorError {
  try {
    engineDown(error)
  } catch (unavailable) {
    return unavailable as ConveyorError
  }
}

function removed(cause: unknown): ConveyorError {
  return new ConveyorError('unavailable', "the build's container was removed while it was running", {
    cause,
    hint: 'Another attempt at the build, or someone with access to the engine, removed it',
  })
}

/** The engine refused. Invalid settings stay invalid; anything else is worth a retry. */
function broken(error: unknown, message: string, image: string): ConveyorError {
  const what = `a container of the builder image ${image} could not run: ${message}`
  const status = statusOf(error) ?? 500
  const settings =
    status < 500 || /OCI runtime|exec(utable)?[: ]|invalid mount|network .* not found/i.test(message)
  return settings
    ? new ConveyorError('invalid', what, {
        cause: error,
        hint: "Check the image's entrypoint, and the options --builder.* and --build.network",
      })
    : new ConveyorError('unavailable', what, { cause: error })
}
