import { ConveyorError, type ErrorKind } from '../../core/errors.ts'
import { isUntrusted, TRUST_HINT } from '../../net/certificates.ts'

/** What GitHub asks of those who run into a rate limit without being told how long it lasts. */
const RATE_LIMIT_WAIT_MS = 60_000

/** What a failed request was about. */
export interface FailedCall {
  /** Completes "cannot ...". */
  action: string
  /** What the token needs in order to be allowed to do it. */
  scope: string
  token: string | undefined
  baseUrl: string
  timeoutMs: number
}

/** The error that a failed request becomes, and how long GitHub asks to wait before another try. */
export interface Failure {
  error: ConveyorError
  waitMs?: number
}

interface Response {
  status: number
  headers: Record<string, string | undefined>
  data: unknown
}

/**
 * Explains what Octokit threw. Its errors hold the request with all headers, so none becomes a `cause`,
 * and of GitHub's answer only the message is taken.
 */
export function explainFailure(thrown: unknown, call: FailedCall): Failure {
  if (thrown instanceof ConveyorError) return { error: thrown }
  const response = responseOf(thrown)
  return response ? explainAnswer(response, call) : { error: explainSilence(thrown, call) }
}

/** `1 s`, `2.5 s` for a time in milliseconds. */
export function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}

function explainSilence(thrown: unknown, call: FailedCall): ConveyorError {
  const why = isTimeout(thrown) ? `no answer within ${seconds(call.timeoutMs)}` : rootMessage(thrown)
  const hint = isUntrusted(thrown)
    ? TRUST_HINT
    : `Check that ${call.baseUrl} can be reached from this machine`
  return failure(call, 'unavailable', `GitHub cannot be reached: ${why}`, hint)
}

function explainAnswer(response: Response, call: FailedCall): Failure {
  const { status, headers } = response
  const { scope, token } = call
  const said = messageOf(response)
  const limitedMs = rateLimitMs(response, said)
  if (limitedMs !== undefined) {
    const why = `GitHub's rate limit is used up for another ${seconds(limitedMs)}`
    const hint = token === undefined ? 'Set GITHUB_TOKEN: the limit is far higher with a token' : undefined
    return { error: failure(call, 'unavailable', why, hint), waitMs: limitedMs }
  }
  if (status >= 500) {
    const error = failure(call, 'unavailable', `GitHub answered ${said}`, 'Try again later')
    return { error, waitMs: secondsHeader(headers['retry-after']) ?? 0 }
  }
  if (status === 401) {
    const why = token === undefined ? 'GitHub wants a token' : 'GitHub refused the token'
    const hint = `Set GITHUB_TOKEN to a valid token with ${scope}`
    return { error: failure(call, 'unauthorized', `${why}: ${said}`, hint) }
  }
  if (status === 403) {
    const hint = `Give the token in GITHUB_TOKEN ${scope} for this repository`
    return { error: failure(call, 'unauthorized', `GitHub does not allow it: ${said}`, hint) }
  }
  if (status === 404) {
    const why = `GitHub answered ${said}, as it also does when the token may not see the repository`
    const hint = `Check the repository's name, and that the token in GITHUB_TOKEN has ${scope}`
    return { error: failure(call, 'not_found', why, hint) }
  }
  // 409: the repository has no commits. 422 without a list of what is wrong: there is no such commit.
  const kind = status === 409 || (status === 422 && !hasDetails(response)) ? 'not_found' : 'invalid'
  return { error: failure(call, kind, `GitHub answered ${said}`) }
}

function failure({ action, token }: FailedCall, kind: ErrorKind, why: string, hint?: string): ConveyorError {
  const text = `cannot ${action}: ${why}`
  // A proxy might quote the request back: the token must not get out that way either.
  const message = token === undefined ? text : text.replaceAll(token, '***')
  return new ConveyorError(kind, message, hint === undefined ? {} : { hint })
}

/** The answer that an error of Octokit carries; undefined when there was none. */
function responseOf(thrown: unknown): Response | undefined {
  return thrown instanceof Error && 'response' in thrown
    ? (thrown.response as Response | undefined)
    : undefined
}

/** Whether an answer lists what is wrong with the request: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed */
function hasDetails({ data }: Response): boolean {
  return typeof data === 'object' && data !== null && 'errors' in data
}

/** The status and GitHub's own words, short and on one line; a page of HTML is left out. */
function messageOf({ status, data }: Response): string {
  if (typeof data !== 'object' || data === null || !('message' in data)) return String(status)
  const details = 'errors' in data && Array.isArray(data.errors) ? data.errors : []
  const words = [data.message, ...details.map((detail) => detail?.message ?? detail)]
  const line = words.filter((word) => typeof word === 'string').join(': ')
  return `${status} (${line.replace(/[\s\p{Cc}]+/gu, ' ').slice(0, 200)})`
}

/**
 * How long a rate limit lasts; undefined if the answer is about something else.
 * https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
 */
function rateLimitMs({ status, headers }: Response, said: string): number | undefined {
  if (status !== 403 && status !== 429) return undefined
  const asked = secondsHeader(headers['retry-after'])
  if (asked !== undefined) return asked
  const reset = secondsHeader(headers['x-ratelimit-reset'])
  // One second more, as the reset is given in whole seconds.
  if (headers['x-ratelimit-remaining'] === '0' && reset !== undefined) {
    return Math.max(0, reset - Date.now()) + 1_000
  }
  return status === 429 || /rate limit|abuse detection/i.test(said) ? RATE_LIMIT_WAIT_MS : undefined
}

/** A header that counts seconds, in milliseconds. */
function secondsHeader(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,12}$/.test(value) ? Number(value) * 1_000 : undefined
}

function isTimeout(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error.name === 'TimeoutError') return true
  }
  return false
}

/** The message of the innermost cause: fetch itself only says "fetch failed". */
function rootMessage(thrown: unknown): string {
  let error = thrown
  while (error instanceof Error && error.cause instanceof Error) error = error.cause
  if (error instanceof AggregateError && error.message === '') error = error.errors[0]
  return error instanceof Error ? error.message : String(error)
}
