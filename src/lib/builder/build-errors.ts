import { reportedExcerpt } from '../buildkit/error-excerpt.ts'
import { isDockerfileStep } from '../buildkit/step-names.ts'
import { ConveyorError } from '../core/errors.ts'
import { excerptOf, type SourceExcerpt } from '../core/timeline.ts'
import { isConnection, messageOf, NO_ENGINE } from '../docker/errors.ts'
import { stageNames } from '../dockerfile/stages.ts'
import { linesFrom, linesOfStep } from '../dockerfile/step-lines.ts'
import { innermost, parseRegistryMessage } from '../registry/messages.ts'
import { baseImageError, type RegistryLookup } from '../registry/push-errors.ts'
import {
  commandError,
  type FailedStep,
  missingPath,
  oldFrontend,
  parseErrorLine,
  remoteFileError,
  short,
} from './step-errors.ts'

/** How a build failed. */
export interface BuildFailure {
  /** The error of the request to the engine or BuildKit. */
  thrown: unknown
  /** The error on our side of the session, if any; the engine only sees a lost session. */
  ours: Error | undefined
  /** The failed vertex, if any. */
  failed: FailedStep | undefined
}

/** Where to look up more about a failed build. */
export interface BuildFacts extends RegistryLookup {
  /** Path of the Dockerfile. */
  file?: string
  /** Reads the Dockerfile; null if it is too large. Errors are less specific if that fails. */
  dockerfile?: () => Promise<string | null>
}

/**
 * Classifies a failed build by where it failed. A failed step of the Dockerfile is a result of the build
 * (`build_failed`), as is a base image that cannot be pulled for good; an infrastructure failure is worth a retry
 * (`unavailable`).
 */
export async function buildError(failure: BuildFailure, facts: BuildFacts = {}): Promise<ConveyorError> {
  const { thrown, ours } = failure
  if (ours instanceof ConveyorError) return ours
  if (thrown instanceof ConveyorError) return thrown
  const error = await classified(failure, facts)
  error.excerpt ??= reportedExcerpt(thrown) ?? (await excerptFrom(failure, facts)) ?? undefined
  return error
}

/** The lines of the Dockerfile that the build failed at, where BuildKit does not report them. */
async function excerptFrom(
  { thrown, failed }: BuildFailure,
  { dockerfile, file }: BuildFacts,
): Promise<SourceExcerpt | null> {
  const line = failed ? undefined : parseErrorLine(innermost(messageOf(thrown)))
  if (!dockerfile || file === undefined) return null
  if (failed ? !isDockerfileStep(failed.name) : line === undefined) return null
  // If the Dockerfile cannot be read, the build's own error still counts.
  const text = await dockerfile().catch(() => null)
  if (text === null) return null
  const lines = await (failed ? linesOfStep(text, failed.name) : linesFrom(text, line ?? 0))
  return lines && excerptOf(file, text, [lines])
}

async function classified(
  { thrown, ours, failed }: BuildFailure,
  { dockerfile = async () => '', ...lookup }: BuildFacts,
): Promise<ConveyorError> {
  const cause = ours ?? thrown
  const text = messageOf(cause)
  if (isConnection(cause)) {
    return new ConveyorError('unavailable', `lost the connection to the Docker engine: ${text}`, {
      cause,
      hint: NO_ENGINE,
    })
  }
  const rest = innermost(text)
  const command = failed && commandError(failed, cause)
  if (command) return command
  if (INFRASTRUCTURE.some((form) => form.test(rest))) {
    const where = failed ? `${short(failed.name)}: ` : ''
    return new ConveyorError('unavailable', `${where}${rest}`, { cause })
  }
  const image = imageIn(text, failed?.name)
  // If pulling a layer fails, engines with the classic store report no failed vertex, and others the step on top.
  const isOnTop = !failed || isDockerfileStep(failed.name)
  if (image !== null || (isOnTop && isPull(text))) {
    return baseImageError({ text, image, cause }, lookup)
  }
  // If the Dockerfile cannot be read, the build's own error still counts.
  const dockerfileOrEmpty = async () => (await dockerfile().catch(() => null)) ?? ''
  if (!failed) return frontendError(rest, await dockerfileOrEmpty(), cause)
  const remote = remoteFileError(failed, text, cause)
  if (remote) return remote
  if (isDockerfileStep(failed.name)) {
    const missing = missingPath(failed, text, stageNames(await dockerfileOrEmpty()), cause)
    return missing ?? new ConveyorError('build_failed', `${short(failed.name)}: ${rest}`, { cause })
  }
  return new ConveyorError('unavailable', `${short(failed.name)}: ${rest}`, { cause })
}

/** Without a failed step, the error is one of the frontend, which parses the Dockerfile. */
function frontendError(rest: string, dockerfile: string, cause: unknown): ConveyorError {
  if (NO_CONTEXTS.test(rest)) {
    return new ConveyorError('invalid', 'the Dockerfile frontend does not support named contexts', {
      cause,
      hint: 'Start the Dockerfile with `# syntax=docker/dockerfile:1`, use Docker 23 or newer, or omit --build.context',
    })
  }
  if (dockerfile.includes('\0')) {
    return new ConveyorError('build_failed', `the Dockerfile is not UTF-8: ${rest}`, {
      cause,
      hint: 'Save it as UTF-8; it contains null characters, like a UTF-16 file',
    })
  }
  return oldFrontend(rest, dockerfile, cause) ?? new ConveyorError('build_failed', rest, { cause })
}

const NO_CONTEXTS = /^unsupported frontend capability moby\.buildkit\.frontend\.contexts(?:\+forward)?$/

/** Errors of the machine, whatever the step: from the kernel, or from Go when work was cancelled from outside. */
const INFRASTRUCTURE = [
  /(?:^|: )(?:no space left on device|read-only file system|input\/output error|too many open files|disk quota exceeded)$/,
  /(?:^|: )context (?:canceled|deadline exceeded)(?:: unknown)?$/,
  /(?:^|: )(?:transport is closing|error reading from server: EOF)$/,
  /^no active session for \S+: [^\n]*$/,
]

/** The image that could not be pulled: from the text, as several vertices fail at once, or from the vertex. */
function imageIn(text: string, vertex = ''): string | null {
  const named = SOURCE.exec(text)?.[1]
  const loaded = IMAGES.map((form) => form.exec(vertex)?.[1]).find((one) => one !== undefined)
  return loaded === undefined ? null : (named ?? loaded)
}

const SOURCE = /^(?:failed to solve: )?(?:\S+: )?failed to resolve source metadata for (\S+): /
const IMAGES = [
  /^\[internal\] load metadata for (\S+)$/,
  /^resolve image config for (?:docker-image:\/\/)?(\S+)$/,
  /^(?:\[[^\]]*\] )?FROM (\S+)/,
  /^docker-image:\/\/(\S+)$/,
  /^\[context [^\]]+\] (?:load metadata for |docker-image:\/\/)(\S+)$/,
]

/** Whether a layer of a base image could not be pulled from its registry. */
function isPull(text: string): boolean {
  return PULL.test(text) && parseRegistryMessage(text) !== null
}
const PULL =
  /^(?:failed to solve: )?(?:failed to (?:compute|load) cache key: )?failed to (?:copy: httpReadSeeker: failed open|read expected number of bytes): /
