import { type Build, cancelReason, isEnded, shortName } from '../../core/build.ts'
import { ConflictError, ConveyorError, toConveyorError } from '../../core/errors.ts'
import { about, type Log } from '../../core/log.ts'
import { linesTo, oneLine } from '../../core/one-line.ts'
import type { LogStore } from '../../logs/log-store.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { atMost } from '../../util/lifecycle.ts'
import type { BuildObserver } from '../observer.ts'
import type { StatusReporter } from '../status-reporter.ts'

export interface CancelParts {
  store: BuildStore
  logs: LogStore
  statuses: Pick<StatusReporter, 'report'>
  observer?: BuildObserver
  /** The server's own log, one line at a time. */
  log: Log
}

/** How long callers wait for the end of a log, in milliseconds: a storage that is down is tried again for longer. */
const LOG_MS = 2000
/** In characters. */
const LONGEST_NAME = 100

/**
 * Cancels a build for the person or program named `by`. A pending build has ended when this resolves. For a building one
 * the wish is stored: its worker stops the engine's work within about a second, and ends the build as cancelled; if that
 * worker has died, the one that takes over the build does.
 * @returns the build, `cancelled`, or `building` with `cancel`: it will be
 * @throws ConflictError if it has ended, or is moving its tags; ConveyorError `not_found`
 */
export async function cancelBuild(id: string, by: string, parts: CancelParts): Promise<Build> {
  const { store } = parts
  const name = oneLine(by).slice(0, LONGEST_NAME).toWellFormed()
  const build = await store.requestCancel(id, name)
  if (!build) throw await whyNot(id, store)
  if (isEnded(build.state)) await endCancelled(build, parts)
  return build
}

/**
 * Reports a build that was cancelled while it waited, and ends its log, which goes on in the background if it takes long.
 * Never rejects.
 */
export async function endCancelled(build: Build, parts: Omit<CancelParts, 'store'>): Promise<void> {
  parts.statuses.report(build)
  parts.observer?.ended(build)
  await atMost(LOG_MS, endLog(build, parts))
}

async function endLog(build: Build, { logs, log }: Pick<CancelParts, 'logs' | 'log'>): Promise<void> {
  try {
    const writer = await logs.open(build.id)
    await linesTo(writer)(cancelReason(build))
    await writer.end()
  } catch (error) {
    // The build has ended whatever happens to its log, which whoever gets its job ends as well.
    log(`ending the log of ${shortName(build)}: ${toConveyorError(error, 'failed').advice}`, about(build))
  }
}

async function whyNot(id: string, store: BuildStore): Promise<ConveyorError> {
  const build = await store.get(id)
  if (!build) return new ConveyorError('not_found', `build ${id.slice(0, 200)} not found`)
  const name = `build ${build.id} of ${shortName(build)}`
  if (isEnded(build.state)) {
    return new ConflictError(`${name} cannot be cancelled: it has already ended (${build.state})`)
  }
  return new ConflictError(
    `${name} can no longer be cancelled: its image is built, and its tags are being moved`,
    {
      hint: 'Wait for its end, which is seconds away; if moving the tags fails, it can be cancelled again',
    },
  )
}
