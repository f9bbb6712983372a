import { setTimeout as sleep } from 'node:timers/promises'
import { Octokit } from '@octokit/rest'
import { ConveyorError } from '../../core/errors.ts'
import { validRepository } from '../../core/validate.ts'
import { wholeBody } from '../../net/bodies.ts'
import { JsonBounds } from '../../util/bounded-json.ts'
import { retry } from '../../util/retry.ts'
import { explainFailure, type Failure, type Need, seconds } from './errors.ts'
import { Pacing } from './pacing.ts'
import type { GitHubTokens } from './tokens.ts'

/** How to send requests to GitHub. */
export interface GitHubRequestOptions {
  /** Base URL of the REST API: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise. */
  baseUrl: string
  userAgent?: string
  /** Sends the requests, e.g. through a proxy; by default Node's own. */
  fetch?: typeof globalThis.fetch
  /** Timeout of a request, in milliseconds; 10,000 by default. */
  requestTimeoutMs?: number
  /** Waits before each retry, in milliseconds. */
  retryDelaysMs?: readonly number[]
  /** Replaced in tests. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<unknown>
  /** The clock that waits are measured with, in milliseconds since 1970; replaced in tests. */
  now?: () => number
  /** Receives lines for the operator. */
  log?: (line: string) => void
}

/** Describes a call, and its errors. */
interface Call {
  /** Completes "cannot ...". */
  action: string
  /** Null: of the operator's settings, nothing. */
  need: Need | null
  /** The repository whose token is sent; null for requests about the token itself, or the App. */
  repository: string | null
  /** Whether it changes something: GitHub limits these more. */
  write?: boolean
  signal?: AbortSignal | undefined
}

/** To be passed to Octokit's methods as `request`. */
export interface RequestSettings {
  signal: AbortSignal
}

/**
 * Sends requests with the right token, a timeout, and retries: `send` gets the settings to pass on to Octokit.
 * @throws ConveyorError, which contains no token
 */
type Caller = <T>(what: Call, send: (request: RequestSettings) => Promise<T>) => Promise<T>

/** GitHub's REST API. */
export interface GitHubApi {
  octokit: Octokit
  call: Caller
  /** Without retries, except for what a new token can help with. */
  once: Caller
}

/** API version: https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28'
/** Longest total wait of a call. A rate limit that lasts longer fails immediately. */
const LONGEST_WAIT_MS = 60_000
/** In bytes. The longest are lists of check runs, each of which may have two texts of 64 KiB. */
const LONGEST_ANSWER = 16 << 20
/** GitHub may not know an installation's token everywhere in its first seconds. */
const NEW_TOKEN_AFTER_MS = 1000

/** The tokens of requests by their signals: in no object that is part of an error. */
const tokenOf = new WeakMap<AbortSignal, string>()

/**
 * @param authentication how Octokit itself authenticates requests that have no token
 * @throws ConveyorError `invalid` if the base URL is malformed
 */
export function githubApi(
  options: GitHubRequestOptions & { tokens: GitHubTokens },
  authentication: ConstructorParameters<typeof Octokit>[0] = {},
): GitHubApi {
  const baseUrl = validBaseUrl(options.baseUrl)
  const octokit = new Octokit({
    ...authentication,
    baseUrl,
    userAgent: options.userAgent ?? 'conveyor',
    request: { fetch: boundedFetch(options.fetch ?? globalThis.fetch) },
    // Its own log would go to the console.
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  })
  octokit.hook.before('request', (request) => {
    request.headers['x-github-api-version'] = API_VERSION
    const token = tokenOf.get((request.request as RequestSettings).signal)
    if (token !== undefined) request.headers.authorization = `token ${token}`
  })
  const pacing = new Pacing(options.now)
  const call = caller({ ...options, baseUrl }, pacing)
  return { octokit, call, once: caller({ ...options, baseUrl, retryDelaysMs: [] }, pacing) }
}

/**
 * Bounds the memory that a response needs, and the time to parse it. One that exceeds that is not GitHub's: it has its
 * status and headers, but no content.
 */
function boundedFetch(send: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (...args) => {
    const { body, status, statusText, headers } = await send(...args)
    // A Response of our own has no status above; an error it is, either way.
    const init = { status: Math.min(status, 599), statusText, headers }
    const bounds = new JsonBounds()
    return new Response(body && (await wholeBody(body, LONGEST_ANSWER, (piece) => bounds.allow(piece))), init)
  }
}

/** The account that a rate limit counts for: an installation of an App is for one owner. */
function accountOf(tokens: GitHubTokens, repository: string | null): string {
  return tokens.kind === 'app' ? (repository?.split('/')[0]?.toLowerCase() ?? '') : ''
}

/** Makes the function that sends a request with timeout and retries. */
function caller(options: GitHubRequestOptions & { tokens: GitHubTokens }, pacing: Pacing): Caller {
  const {
    tokens,
    baseUrl,
    log = () => {},
    requestTimeoutMs = 10_000,
    retryDelaysMs = [1_000, 3_000, 9_000],
  } = options
  return async (what, send) => {
    const { signal, action, repository } = what
    const account = accountOf(tokens, repository)
    let failure: Failure | undefined
    let waited = 0
    let refusals = 0
    let hasToken = true

    const failed = (thrown: unknown, sent: string | null) => {
      const about = { ...what, token: sent, kind: tokens.kind, baseUrl, timeoutMs: requestTimeoutMs }
      failure = explainFailure(thrown, about)
      const { limit, error } = failure
      if (limit) pacing.limited(account, failure.waitMs ?? 0, limit === 'secondary')
      if (failure.refused && repository !== null && sent !== null) {
        tokens.refused(repository, sent)
      }
      return error
    }
    /** Waits until GitHub wants requests again, unless that takes too long. */
    const turn = async () => {
      // After a wait for the limit that this call itself has met, the next try is due.
      const blocked = failure?.limit ? 0 : pacing.blockedMs(account)
      if (waited + blocked > LONGEST_WAIT_MS) throw limitReached(what, blocked)
      const write = what.write ? pacing.write(account, LONGEST_WAIT_MS - waited - blocked) : 0
      if (write === null) throw limitReached(what, LONGEST_WAIT_MS)
      const wait = Math.max(blocked, write)
      waited += wait
      if (wait > 0) await (options.sleep ?? pause)(wait, signal)
    }
    const tokenFor = (name: string) =>
      tokens.token(name, signal).catch((error: unknown) => {
        hasToken = false
        throw error
      })
    const attempt = async () => {
      let sent: string | null = null
      try {
        signal?.throwIfAborted()
        await turn()
        if (repository !== null || tokens.kind === 'personal') sent = await tokenFor(repository ?? '')
        const timeout = AbortSignal.timeout(requestTimeoutMs)
        const own = AbortSignal.any(signal ? [signal, timeout] : [timeout])
        if (sent !== null) tokenOf.set(own, sent)
        return await send({ signal: own })
      } catch (thrown) {
        if (signal?.aborted) throw cancelled(action)
        throw failed(thrown, sent)
      }
    }
    const delays = (failures: number) => {
      if (failure?.refused && tokens.kind === 'app' && repository !== null && refusals++ === 0) {
        return NEW_TOKEN_AFTER_MS
      }
      // That has been retried.
      if (!hasToken) return undefined
      const delay = retryDelaysMs[failures - 1]
      if (delay === undefined || !failure?.error.retryable) return undefined
      const wait = Math.max(failure.waitMs ?? 0, delay)
      if (waited + wait > LONGEST_WAIT_MS) return undefined
      waited += wait
      return wait
    }
    try {
      return await retry(attempt, {
        delays,
        isRetryable: () => !signal?.aborted,
        signal,
        onRetry: (error, ms) => log(`${(error as Error).message}; retrying in ${seconds(ms)}`),
        ...(options.sleep && { sleep: options.sleep }),
      })
    } catch (error) {
      throw signal?.aborted ? cancelled(action) : error
    }
  }
}

async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, signal && { signal })
}

function limitReached({ action }: Call, waitMs: number): ConveyorError {
  const why = `GitHub's rate limit is exceeded; it resets in ${seconds(waitMs)}`
  return new ConveyorError('unavailable', `cannot ${action}: ${why}`, { retryAfterMs: waitMs })
}

function cancelled(action: string): ConveyorError {
  return new ConveyorError('cancelled', `cannot ${action}: cancelled`)
}

/** Reads a response with a success status. */
export function readable<T>(action: string, read: () => T): T {
  try {
    return read()
  } catch {
    throw notGitHub(action)
  }
}

/** Retryable: a truncated response looks like this, too. */
export function notGitHub(action: string): ConveyorError {
  return new ConveyorError('unavailable', `cannot ${action}: the response is not from GitHub`, {
    hint: "Check that the base URL is that of GitHub's API (https://HOST/api/v3 for GitHub Enterprise)",
  })
}

/** A repository in the form of the API's parameters. @throws ConveyorError `invalid` */
export function ownerAndName(repository: string): { owner: string; repo: string } {
  const [owner = '', repo = ''] = validRepository(repository).split('/')
  return { owner, repo }
}

function validBaseUrl(value: string): string {
  const url = URL.parse(value)
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new ConveyorError('invalid', "the base URL of GitHub's API is not a plain http or https URL", {
      hint: 'Use https://api.github.com, or https://HOST/api/v3 for GitHub Enterprise',
    })
  }
  return url.href.replace(/\/+$/, '')
}
