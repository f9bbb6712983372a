import { type Build, shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { refTitle } from '../../core/validate.ts'

/** The number of this attempt, without those that do not count; see Build.spared. */
export function countedAttempt({ attempt, spared = 0 }: Build): number {
  return attempt - spared
}

/** The longest delay that is granted to a server, in seconds. */
const MAX_REQUESTED_DELAY = 1800

/** How long the failing server wants to be left alone (Retry-After), in seconds. */
export function requestedDelay({ retryAfterMs = 0 }: ConveyorError): number {
  return Math.min(Math.ceil(retryAfterMs / 1000), MAX_REQUESTED_DELAY)
}

/** The first lines of an attempt's log. */
export function header(build: Build, attempts: number): string[] {
  const refs = build.refs.map(refTitle).join(', ')
  const cache = build.cache ? '' : ', no cache'
  const what = `building ${build.repository}@${build.sha}${refs && ` (${refs})`}${cache}`
  const why = build.reason === undefined ? [] : [`because: ${build.reason}`]
  const counted = countedAttempt(build)
  return counted > 1 ? ['', what, ...why, `attempt ${counted} of ${attempts}`] : [what, ...why]
}

/** The attempt has reached its time limit, in milliseconds. */
export function tookTooLong(build: Build, ms: number): ConveyorError {
  const limit = ms < 120_000 ? `${ms / 1000} s` : `${+(ms / 60_000).toFixed(1)} minutes`
  return new ConveyorError('timeout', `building ${shortName(build)} took longer than ${limit}`, {
    hint: 'Find the slow step in the log, or raise --timeout (TIMEOUT)',
  })
}

/** All attempts are used up, and the last one was interrupted. */
export function cutOff(build: Build): ConveyorError {
  const attempts = count(countedAttempt(build) - 1, 'attempt')
  return new ConveyorError(
    'unavailable',
    `gave up building ${shortName(build)} after ${attempts}: the process that ran the last one died`,
    {
      hint: "Find the cause in Conveyor's own log and the system's (out of memory?), then push again",
      retryable: false,
    },
  )
}

/** `1 attempt`, `2 attempts` */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
