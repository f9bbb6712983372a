import { ConveyorError, type ErrorKind } from '../../core/errors.ts'
import { isUntrusted, TRUST_HINT } from '../../net/certificates.ts'
import { retryAfterMs } from '../../net/retry-after.ts'
import type { GitHubTokens } from './tokens.ts'

/** What a token needs for a call: the scope of a classic one, and the permission of others and of Apps. */
export interface Need {
  scope: string
  permission: string
}

/** The wait that GitHub asks for after a rate limit whose end is not in the response. */
const RATE_LIMIT_WAIT_MS = 60_000

/** Context of a failed request. */
export interface FailedCall {
  /** Completes "cannot ...". */
  action: string
  /** Whose token is sent; null for a request about the token itself, or the App. */
  repository: string | null
  /** What the token needs for it; null if that is not for the operator to set, as for a person's token. */
  need: Need | null
  /** That was sent. */
  token: string | null
  kind: GitHubTokens['kind']
  baseUrl: string
  timeoutMs: number
}

/** The error for a failed request, and how long GitHub asks to wait before a retry. */
export interface Failure {
  error: ConveyorError
  waitMs?: number
  /** Whether a rate limit is exceeded: that of an hour, or one of those against bursts. */
  limit?: 'primary' | 'secondary'
  /** Whether the token itself is not, or no longer, valid. */
  refused?: boolean
}

interface ApiResponse {
  status: number
  headers: Record<string, string | undefined>
  data: unknown
}

/**
 * Turns an error of Octokit into a ConveyorError. Octokit's errors contain the request with all its headers, so they
 * never become a `cause`, and only the message of GitHub's response is quoted.
 */
export function explainFailure(thrown: unknown, call: FailedCall): Failure {
  if (thrown instanceof ConveyorError) return { error: thrown, waitMs: thrown.retryAfterMs ?? 0 }
  const response = responseOf(thrown)
  return response ? explainResponse(response, call) : { error: explainNoResponse(thrown, call) }
}

/** Whether GitHub denies something to whoever asks, rather than for now. */
export function isDenied(thrown: unknown): boolean {
  const response = responseOf(thrown)
  if (response?.status === 404) return true
  return response?.status === 403 && rateLimitMs(response, messageOf(response)) === undefined
}

/** `1 s`, `2.5 s` for a time in milliseconds. */
export function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}

function explainNoResponse(thrown: unknown, call: FailedCall): ConveyorError {
  const why = isTimeout(thrown) ? `no response within ${seconds(call.timeoutMs)}` : rootMessage(thrown)
  const hint = isUntrusted(thrown)
    ? TRUST_HINT
    : `Check that ${call.baseUrl} can be reached from this machine`
  return failure(call, 'unavailable', `cannot reach GitHub: ${why}`, hint)
}

function explainResponse(response: ApiResponse, call: FailedCall): Failure {
  const { status, headers } = response
  const { kind, token } = call
  const said = messageOf(response)
  const limitedMs = rateLimitMs(response, said)
  if (limitedMs !== undefined) {
    const why = `GitHub's rate limit is exceeded; it resets in ${seconds(limitedMs)}`
    const hint = kind === 'none' ? 'Set GITHUB_TOKEN: with a token, the limit is much higher' : undefined
    const limit = headers['x-ratelimit-remaining'] === '0' ? 'primary' : 'secondary'
    return { error: failure(call, 'unavailable', why, hint), waitMs: limitedMs, limit }
  }
  if (status >= 500) {
    const error = failure(call, 'unavailable', `GitHub answered ${said}`, 'Try again later')
    return { error, waitMs: retryAfterMs(headers['retry-after']) ?? 0 }
  }
  if (status === 401) {
    const isMissing = token === null && (kind !== 'app' || call.repository !== null)
    const why = isMissing ? 'GitHub requires a token' : 'GitHub refused the token'
    return { error: failure(call, 'unauthorized', `${why}: ${said}`, refusedHint(call)), refused: true }
  }
  if (status === 403) {
    return { error: failure(call, 'unauthorized', `GitHub denied permission: ${said}`, deniedHint(call)) }
  }
  if (status === 404) {
    const who = kind === 'app' ? 'App' : 'token'
    const also = `, which may also mean that the ${who} has no access to the repository`
    const why = `GitHub answered ${said}${call.need === null ? '' : also}`
    return { error: failure(call, 'not_found', why, hiddenHint(call)) }
  }
  // 409: the repository has no commits. 422 without validation errors: the commit does not exist.
  const cause = status === 409 || (status === 422 && !hasDetails(response)) ? 'not_found' : 'invalid'
  return { error: failure(call, cause, `GitHub answered ${said}`) }
}

const INSTALL = 'Install the GitHub App on the repository'

/** What is missing, for a hint. */
function needed(kind: FailedCall['kind'], { scope, permission }: Need): string {
  return kind === 'app'
    ? `the permission "${permission}"`
    : `the scope ${scope} (classic) or the permission "${permission}"`
}

function refusedHint(call: FailedCall): string | undefined {
  if (call.need === null) return undefined
  if (call.kind === 'app' && call.token === null && call.repository !== null) return INSTALL
  return call.kind === 'app'
    ? 'Check --github.app_id (GITHUB_APP_ID) and --github.private_key (GITHUB_PRIVATE_KEY)'
    : `Set GITHUB_TOKEN to a valid token with ${needed(call.kind, call.need)}`
}

function deniedHint({ kind, token, need }: FailedCall): string | undefined {
  if (need === null) return undefined
  if (kind === 'app' && token === null) return INSTALL
  return kind === 'app'
    ? `Grant the GitHub App ${needed(kind, need)}, and accept that where it is installed`
    : `Grant the token in GITHUB_TOKEN ${needed(kind, need)} for this repository`
}

function hiddenHint({ kind, need }: FailedCall): string | undefined {
  if (need === null) return undefined
  return kind === 'app'
    ? `Check the name of the repository, and that the GitHub App is installed on it with ${needed(kind, need)}`
    : `Check the name of the repository, and that the token in GITHUB_TOKEN has ${needed(kind, need)}`
}

function failure({ action, token }: FailedCall, kind: ErrorKind, why: string, hint?: string): ConveyorError {
  const text = `cannot ${action}: ${why}`
  // A proxy may echo the request, including the token.
  const message = token === null ? text : text.replaceAll(token, '***')
  return new ConveyorError(kind, message, hint === undefined ? {} : { hint })
}

/** The response in an error of Octokit; undefined if there was none. */
function responseOf(thrown: unknown): ApiResponse | undefined {
  return thrown instanceof Error && 'response' in thrown
    ? (thrown.response as ApiResponse | undefined)
    : undefined
}

/** Whether a response has a list of validation errors: https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed */
function hasDetails({ data }: ApiResponse): boolean {
  return typeof data === 'object' && data !== null && 'errors' in data
}

/** The status and GitHub's message, short and on one line; without HTML pages. */
function messageOf({ status, data }: ApiResponse): string {
  if (typeof data !== 'object' || data === null || !('message' in data)) return String(status)
  const details = 'errors' in data && Array.isArray(data.errors) ? data.errors : []
  const words = [data.message, ...details.map((detail) => detail?.message ?? detail)]
  const line = words.filter((word) => typeof word === 'string').join(': ')
  return `${status} (${line.replace(/[\s\p{Cc}]+/gu, ' ').slice(0, 200)})`
}

/**
 * How long a rate limit lasts; undefined for other responses.
 * https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
 */
function rateLimitMs({ status, headers }: ApiResponse, said: string): number | undefined {
  if (status !== 403 && status !== 429) return undefined
  const asked = retryAfterMs(headers['retry-after'])
  if (asked !== undefined) return asked
  const reset = secondsHeader(headers['x-ratelimit-reset'])
  // One second more, because the reset is given in whole seconds.
  if (headers['x-ratelimit-remaining'] === '0' && reset !== undefined) {
    return Math.max(0, reset - Date.now()) + 1_000
  }
  return status === 429 || /rate limit|abuse detection/i.test(said) ? RATE_LIMIT_WAIT_MS : undefined
}

/** A header with a number of seconds, converted to milliseconds. */
function secondsHeader(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,12}$/.test(value) ? Number(value) * 1_000 : undefined
}

function isTimeout(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error.name === 'TimeoutError') return true
  }
  return false
}

/** The message of the innermost cause: that of fetch is only "fetch failed". */
function rootMessage(thrown: unknown): string {
  let error = thrown
  while (error instanceof Error && error.cause instanceof Error) error = error.cause
  if (error instanceof AggregateError && error.message === '') error = error.errors[0]
  return error instanceof Error ? error.message : String(error)
}
