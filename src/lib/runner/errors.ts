import { ConveyorError } from '../core/errors.ts'
import { engineDown } from '../docker/errors.ts'

/** What went wrong with a container of a builder image, for people. */

const BOOTSTRAP = '`conveyor bootstrap`'

/** HTTP status of the engine's answer; undefined when it gave none. */
export function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number } | null)?.statusCode
}

/** The image is not in the engine, and cannot be pulled. */
export function noImage(image: string, why: string, cause: unknown): ConveyorError {
  return new ConveyorError('invalid', `the builder image ${image} is not there: ${why}`, {
    cause,
    hint: `Make it with ${BOOTSTRAP}, name another with --builder.image (BUILDER_IMAGE), or log in to its registry (docker login)`,
  })
}

/** What a container that could not be made means. */
export function createError(error: unknown, image: string, dataContainer: string | null): ConveyorError {
  const message = engineMessage(error)
  if (statusOf(error) === undefined) return gone(error)
  if (dataContainer !== null && /no such container/i.test(message)) {
    return new ConveyorError('invalid', `there is no container named ${dataContainer} in the engine`, {
      cause: error,
      hint: `Make it with ${BOOTSTRAP}: the builder image finds its ssh key and logins there`,
    })
  }
  if (/no such image/i.test(message)) return noImage(image, message, error)
  return broken(error, message, image)
}

/** What a container that could not be started, or followed to its end, means. */
export function runError(error: unknown, image: string): ConveyorError {
  if (error instanceof ConveyorError) return error
  const status = statusOf(error)
  if (status === undefined) return gone(error)
  const message = engineMessage(error)
  if (/no such container|dead or marked for removal|is being removed/i.test(message)) return removed(error)
  return broken(error, message, image)
}

/** How a container has ended. */
export interface ContainerEnd {
  Status: string
  OOMKilled: boolean
  /** Whether the engine was told to end it. */
  killed: boolean
}

/** What the end of a container with another status than 0 means. */
export function endError(code: number, end: ContainerEnd, image: string): ConveyorError {
  if (end.Status === 'removing' || end.Status === 'dead') return removed(undefined)
  if (end.killed) {
    return new ConveyorError('unavailable', "the build's container was stopped while it ran", {
      hint: 'The engine does that as it shuts down, or somebody with access to it',
    })
  }
  const what = `the builder image ${image} ended with status ${code}`
  if (end.OOMKilled) {
    return new ConveyorError('build_failed', `${what}: it was killed for lack of memory`, {
      hint: 'Give the engine more memory, or make the build use less',
    })
  }
  return new ConveyorError('build_failed', what, { hint: 'See the end of its log' })
}

/** The engine gave no answer. */
export function gone(error: unknown): ConveyorError {
  try {
    engineDown(error)
  } catch (unavailable) {
    return unavailable as ConveyorError
  }
}

function removed(cause: unknown): ConveyorError {
  return new ConveyorError('unavailable', "the build's container was removed while it ran", {
    cause,
    hint: 'Another attempt at the build does that, or somebody with access to the engine',
  })
}

/** The engine refused. What is wrong with the settings stays wrong; the rest may work another time. */
function broken(error: unknown, message: string, image: string): ConveyorError {
  const what = `a container of the builder image ${image} could not be run: ${message}`
  const status = statusOf(error) ?? 500
  const settings =
    status < 500 || /OCI runtime|exec(utable)?[: ]|invalid mount|network .* not found/i.test(message)
  return settings
    ? new ConveyorError('invalid', what, {
        cause: error,
        hint: 'Check the image (its entrypoint), and the options --builder.* and --build.network',
      })
    : new ConveyorError('unavailable', what, { cause: error })
}

/** The engine's own words, without what the client puts around them. */
export function engineMessage(error: unknown): string {
  const { json, message } = error as { json?: { message?: unknown } | null; message?: string }
  const text = typeof json?.message === 'string' ? json.message : String(message ?? error)
  return text.replace(/^\(HTTP code \d+\) [^-]*- /, '').trim()
}
