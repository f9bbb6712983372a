import { isDockerfileStep } from '../buildkit/progress.ts'
import { ConveyorError } from '../core/errors.ts'
import { isConnection, messageOf, NO_ENGINE } from '../docker/errors.ts'
import { stageNames } from '../dockerfile/stages.ts'
import { innermost, parseRegistryMessage } from '../registry/messages.ts'
import { baseImageError, type ManifestReader } from '../registry/push-errors.ts'
import {
  commandError,
  type FailedStep,
  missingPath,
  oldFrontend,
  remoteFileError,
  short,
} from './step-errors.ts'

/** How a build failed. */
export interface BuildFailure {
  /** What the request to the engine, or BuildKit, ended with. */
  thrown: unknown
  /** What went wrong on our side of the session, which the engine sees only as a lost session. */
  ours: Error | undefined
  /** The vertex that failed, if one did. */
  failed: FailedStep | undefined
}

/** What is known besides. */
export interface BuildFacts {
  /** Reads the Dockerfile, null when it is too large; where that fails, errors say less. */
  dockerfile?: () => Promise<string | null>
  registry?: ManifestReader | undefined
}

/**
 * What a failed build means, by where it failed. What a line of the Dockerfile asks for is a result of the build
 * (`build_failed`), as is a base image that its registry does not give; a part that broke is worth another try
 * (`unavailable`).
 */
export async function buildError(
  { thrown, ours, failed }: BuildFailure,
  { dockerfile = async () => '', registry }: BuildFacts = {},
): Promise<ConveyorError> {
  if (ours instanceof ConveyorError) return ours
  if (thrown instanceof ConveyorError) return thrown
  const cause = ours ?? thrown
  const text = messageOf(cause)
  if (isConnection(cause)) {
    return new ConveyorError('unavailable', `the Docker engine went away: ${text}`, {
      cause,
      hint: NO_ENGINE,
    })
  }
  const rest = innermost(text)
  const command = failed && commandError(failed, cause)
  if (command) return command
  if (BROKE.some((form) => form.test(rest))) {
    const where = failed ? `${short(failed.name)}: ` : ''
    return new ConveyorError('unavailable', `${where}${rest}`, { cause })
  }
  const image = imageIn(text, failed?.name)
  // Engines with the classic store tell of no vertex that fails for a layer; others blame the step on top of it.
  const isOnTop = !failed || isDockerfileStep(failed.name)
  if (image !== null || (isOnTop && isPull(text))) {
    return baseImageError({ text, image, cause }, registry)
  }
  // The failure at hand says more than one of reading the Dockerfile for its sake.
  const written = async () => (await dockerfile().catch(() => null)) ?? ''
  if (!failed) return frontendError(rest, await written(), cause)
  const remote = remoteFileError(failed, text, cause)
  if (remote) return remote
  if (isDockerfileStep(failed.name)) {
    const missing = missingPath(failed, text, stageNames(await written()), cause)
    return missing ?? new ConveyorError('build_failed', `${short(failed.name)}: ${rest}`, { cause })
  }
  return new ConveyorError('unavailable', `${short(failed.name)}: ${rest}`, { cause })
}

/** What ends without a step that failed is what reads the Dockerfile. */
function frontendError(rest: string, dockerfile: string, cause: unknown): ConveyorError {
  if (NO_CONTEXTS.test(rest)) {
    return new ConveyorError('invalid', 'what reads the Dockerfile knows no named contexts', {
      cause,
      hint: 'Begin the Dockerfile with `# syntax=docker/dockerfile:1`, use Docker 23 or newer, or leave out --build.context',
    })
  }
  if (dockerfile.includes('\0')) {
    return new ConveyorError('build_failed', `the Dockerfile is no UTF-8 text: ${rest}`, {
      cause,
      hint: 'Save it as UTF-8: it has null characters, as UTF-16 has',
    })
  }
  return oldFrontend(rest, dockerfile, cause) ?? new ConveyorError('build_failed', rest, { cause })
}

const NO_CONTEXTS = /^unsupported frontend capability moby\.buildkit\.frontend\.contexts(?:\+forward)?$/

/**
 * How the ends of errors read that are those of the machine, whatever was being done: what the kernel says, and
 * what Go says of work that was stopped from outside.
 */
const BROKE = [
  /(?:^|: )(?:no space left on device|read-only file system|input\/output error|too many open files|disk quota exceeded)$/,
  /(?:^|: )context (?:canceled|deadline exceeded)(?:: unknown)?$/,
  /(?:^|: )(?:transport is closing|error reading from server: EOF)$/,
  /^no active session for \S+: [^\n]*$/,
]

/** The image that could not be had: of the text, as several vertices fail at once, or of the vertex. */
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

/** Whether a layer of a base image could not be had from its registry. */
function isPull(text: string): boolean {
  return PULL.test(text) && parseRegistryMessage(text) !== null
}
const PULL =
  /^(?:failed to solve: )?(?:failed to (?:compute|load) cache key: )?failed to (?:copy: httpReadSeeker: failed open|read expected number of bytes): /
