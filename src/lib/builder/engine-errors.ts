import { isDockerfileStep } from '../buildkit/progress.ts'
import { ConveyorError } from '../errors.ts'
import { splitReference } from '../registry/image-name.ts'

const NO_ENGINE = 'Start the Docker engine, or set DOCKER_HOST to one that runs'

/**
 * What a failed build means. A step that failed is a result (`build_failed`); a part that broke is an
 * error worth another try (`unavailable`).
 * @param thrown what the request to the engine ended with
 * @param ours what went wrong on our side of the session, which the engine sees only as a lost session
 * @param failed the step that failed, if one did
 */
export function buildError(
  thrown: unknown,
  ours: Error | undefined,
  failed: { name: string; error: string } | undefined,
): ConveyorError {
  if (ours instanceof ConveyorError) return ours
  if (thrown instanceof ConveyorError) return thrown
  const cause = ours ?? thrown
  const message = messageOf(cause)
  if (isConnection(cause)) {
    return new ConveyorError('unavailable', `the Docker engine went away: ${message}`, {
      cause,
      hint: NO_ENGINE,
    })
  }
  const text = tidy(message)
  const name = failed ? short(failed.name) : ''
  const step = failed && isDockerfileStep(failed.name) ? `${name}: ` : ''
  const exit = /exit code: (\d+)/.exec(failed?.error ?? '')?.[1]
  if (exit !== undefined && isCommand(failed?.error)) {
    return new ConveyorError('build_failed', `${name} ended with exit code ${exit}`, {
      cause,
      ...(exit === '137' ? { hint: 'That is a command that was killed, mostly for lack of memory' } : {}),
    })
  }
  if (/unsupported frontend capability moby\.buildkit\.frontend\.contexts/.test(message)) {
    return new ConveyorError('invalid', 'what reads the Dockerfile knows no named contexts', {
      cause,
      hint: 'Begin the Dockerfile with `# syntax=docker/dockerfile:1`, use Docker 23 or newer, or leave out --build.context',
    })
  }
  const missing = MISSING_FILE.exec(message)
  if (missing) {
    return new ConveyorError('build_failed', `${step}${missing[1]} is not in the build context`, {
      cause,
      hint: 'Check the path in the Dockerfile, and that the file is committed and not in .dockerignore',
    })
  }
  if (BASE_DENIED.test(text)) {
    return new ConveyorError('build_failed', `base image ${text}`, {
      cause,
      hint: 'Check the name of the base image, and that Conveyor is logged in to its registry (docker login)',
    })
  }
  if (BROKEN_PART.test(text) && !isCommand(failed?.error)) {
    return new ConveyorError('unavailable', text, { cause })
  }
  return new ConveyorError('build_failed', step + text, { cause })
}

/** What a failed question to the engine means. */
export function engineDown(thrown: unknown): never {
  throw new ConveyorError('unavailable', `the Docker engine does not answer: ${messageOf(thrown)}`, {
    cause: thrown,
    hint: NO_ENGINE,
  })
}

/** What a failed push means: `unauthorized` and `invalid` for good, `unavailable` for now. */
export function pushError(thrown: unknown, reference: string): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const message = messageOf(thrown)
  // A sha tag in full would leave no room for the reason in a commit status.
  const what = `pushing ${reference.replace(/(:[0-9a-f]{7})[0-9a-f]{33,57}$/, '$1')} failed: ${tidy(message)}`
  if (
    /unauthorized|authentication required|denied|no basic auth credentials|forbidden|insufficient_scope|authorization failed/i.test(
      message,
    )
  ) {
    return new ConveyorError('unauthorized', what, {
      cause: thrown,
      hint: `Run \`docker login ${splitReference(reference).host}\` as the user that Conveyor runs as, with an account that may push there`,
    })
  }
  if (/does not exist locally|No such image/i.test(message)) {
    return new ConveyorError('unavailable', `${what} (it was removed from the engine meanwhile)`, {
      cause: thrown,
    })
  }
  if (isConnection(thrown)) {
    return new ConveyorError('unavailable', what, { cause: thrown, hint: NO_ENGINE })
  }
  return new ConveyorError('unavailable', what, {
    cause: thrown,
    hint: 'Check that the registry runs and that the engine can reach it',
  })
}

const BASE_DENIED =
  /401 Unauthorized|403 Forbidden|pull access denied|repository does not exist|insufficient_scope|authorization failed|^[^\s"]+: not found$/
/** A COPY or ADD of something that is not there; the wording differs from BuildKit to BuildKit. */
const MISSING_FILE =
  /failed to (?:compute cache key|calculate checksum of ref [^:]+)[^"]*(?:failed to [^"]*)?("[^"]+"):? not found/
/** Messages of the network, the disk and the engine itself (that stops, say) rather than of the Dockerfile. */
const BROKEN_PART =
  /no such host|connection refused|connection reset|i\/o timeout|TLS handshake timeout|no space left on device|no active session|session .* not found|unexpected status.*5\d\d|failed to do request|EOF$|transport is closing|Unavailable desc|context (?:deadline exceeded|canceled)|read-only file system/i

function isCommand(error: string | undefined): boolean {
  return error !== undefined && /did not complete successfully|executor failed running/.test(error)
}

function isConnection(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return (
    typeof code === 'string' && /^(ECONN|ENOENT|EPIPE|ENOTFOUND|ETIMEDOUT|EACCES|EHOSTUNREACH)/.test(code)
  )
}

/** BuildKit wraps errors in what it was about to do; the last part is what a person needs. */
function tidy(message: string): string {
  return message
    .trim()
    .replace(/^\(HTTP code \d+\) [^-]*- /, '')
    .replace(/^failed to solve( with frontend [\w.]+)?: /, '')
    .replace(/^failed to solve( with frontend [\w.]+)?: /, '')
    .replace(/rpc error: code = \w+ desc = /g, '')
    .replace(/^failed to (create LLB definition|read dockerfile): /, '')
    .replace(/^failed to push \S+: /, '')
    .replace(/^(\S+: )?failed to resolve source metadata for \S+: /, '')
}

/** The name of a step, cut where a long command would hide what follows. */
function short(name: string): string {
  const line = name.replace(/\s+/g, ' ')
  return line.length > 80 ? `${line.slice(0, 79)}…` : line
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
