import { Octokit } from '@octokit/rest'
import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'
import { retry } from '../../util/retry.ts'
import type { CommitStatus, Forge } from '../forge.ts'
import { type Account, fetchAccount } from './account.ts'
import { explainFailure, type Failure, seconds } from './errors.ts'

export interface GitHubOptions {
  /** Base URL of the REST API: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise. */
  baseUrl: string
  /** Without a token, no statuses are set, and only public repositories are visible. */
  token?: string
  userAgent?: string
  /** Sends the requests, e.g. through a proxy; by default Node's own. */
  fetch?: typeof globalThis.fetch
  /** Timeout of a request, in milliseconds; 10,000 by default. */
  requestTimeoutMs?: number
  /** Waits before each retry, in milliseconds. */
  retryDelaysMs?: readonly number[]
  /** Replaced in tests. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<unknown>
  /** Receives lines for the operator. */
  log?: (line: string) => void
}

/** A Forge that can also look up its own account. */
export interface GitHub extends Forge {
  /** @throws ConveyorError `unauthorized` when the token is not valid, `unavailable` */
  account(signal?: AbortSignal): Promise<Account>
}

const CONTEXT = 'container/docker'
/** GitHub's limit. */
const DESCRIPTION_LENGTH = 140
/** API version: https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28'
/** Longest total wait of a call. A rate limit that lasts longer fails immediately. */
const LONGEST_WAIT_MS = 60_000

const STATUS_SCOPE = 'the scope repo:status (classic) or the permission "Commit statuses: write"'
const READ_SCOPE = 'the scope repo (classic) or the permission "Contents: read"'

/**
 * GitHub, or GitHub Enterprise, as a Forge. Every request has a timeout; network errors, 5xx answers and
 * rate limits are retried. No error contains the token.
 * @throws ConveyorError `invalid` if the base URL or the token is malformed
 */
export function github(options: GitHubOptions): GitHub {
  const { log = () => {} } = options
  const token = validToken(options.token)
  const baseUrl = validBaseUrl(options.baseUrl)
  const api = new Octokit({
    baseUrl,
    ...(token === undefined ? {} : { auth: token }),
    userAgent: options.userAgent ?? 'conveyor',
    ...(options.fetch && { request: { fetch: options.fetch } }),
    // Its own log would go to the console.
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  })
  api.hook.before('request', (request) => {
    request.headers['x-github-api-version'] = API_VERSION
  })
  const call = caller({ ...options, baseUrl, token })
  const once = caller({ ...options, baseUrl, token, retryDelaysMs: [] })
  let loggedDisabled = false
  /** Repositories that have been logged as archived. */
  const archived = new Set<string>()

  /** Whether a repository is archived, and so read-only; false also if GitHub does not tell. */
  async function isArchived(repository: string, signal: AbortSignal | undefined): Promise<boolean> {
    const action = `check whether ${repository} is archived`
    const request = once({ action, scope: READ_SCOPE, signal }, async (options) => {
      const { data } = await api.repos.get({ ...ownerAndName(repository), request: options })
      return data.archived === true
    })
    return request.catch((error: ConveyorError) => {
      if (error.kind === 'cancelled') throw error
      return false // the error about the status says more
    })
  }

  const forge: GitHub = {
    account(signal) {
      const action = 'authenticate with GitHub'
      const account = call({ action, scope: STATUS_SCOPE, signal }, (request) =>
        fetchAccount(api, token !== undefined, request),
      )
      return account.catch((error: ConveyorError) => {
        throw error.kind === 'not_found' ? notGitHub(action) : error
      })
    },

    async setStatus({ repository, sha, state, description, targetUrl }: CommitStatus, signal) {
      if (token === undefined) {
        if (!loggedDisabled) log('GITHUB_TOKEN is not set: commit statuses are disabled')
        loggedDisabled = true
        return
      }
      const status = {
        ...ownerAndName(repository),
        sha: validSha(sha),
        state,
        context: CONTEXT,
        description: statusDescription(description),
        target_url: targetUrl,
      }
      const action = `set the commit status of ${shortName({ repository, sha })}`
      try {
        await call({ action, scope: STATUS_SCOPE, signal }, async (request) => {
          const answer = await api.repos.createCommitStatus({ ...status, request })
          if (answer.data.state !== state) throw notGitHub(action)
        })
        archived.delete(repository)
      } catch (error) {
        if (!(error instanceof ConveyorError && error.kind === 'unauthorized')) throw error
        if (!(await isArchived(repository, signal))) throw error
        if (!archived.has(repository))
          log(`${repository} is archived on GitHub and accepts no commit statuses`)
        archived.add(repository)
      }
    },

    async branchHead(repository, branch) {
      const name = validRefName(branch)
      const at = ownerAndName(repository)
      const action = `look up the branch "${name}" of ${repository}`
      try {
        return await call({ action, scope: READ_SCOPE }, async (request) => {
          const answer = await api.git.getRef({ ...at, ref: `heads/${name}`, request })
          return readable(action, () => validSha(answer.data.object.sha))
        })
      } catch (error) {
        if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
        // The 404 may be about the repository or the branch: look up which, or else keep the original error.
        const main = await forge.defaultBranch(repository).catch(() => {
          throw error
        })
        throw name === main
          ? new ConveyorError('not_found', `${repository} has no commits yet`, {
              hint: 'Push a commit first',
            })
          : new ConveyorError('not_found', `${repository} has no branch "${name}"`, {
              hint: `Check the name of the branch; the default branch is "${main}"`,
            })
      }
    },

    async defaultBranch(repository) {
      const at = ownerAndName(repository)
      const action = `look up the default branch of ${repository}`
      return call({ action, scope: READ_SCOPE }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRefName(answer.data.default_branch))
      })
    },

    async fullName(repository) {
      const at = ownerAndName(repository)
      const action = `look up the full name of ${repository}`
      return once({ action, scope: READ_SCOPE }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRepository(answer.data.full_name))
      })
    },

    async contains(repository, head, sha, signal) {
      // Without a token, the 60 requests per hour are reserved for what git cannot tell.
      if (token === undefined) return null
      const basehead = `${validSha(sha)}...${validSha(head)}`
      // The second page has no files and, in most cases, no commits.
      const parameters = { ...ownerAndName(repository), basehead, per_page: 1, page: 2 }
      const action = `compare ${shortName({ repository, sha })} with ${head.slice(0, 7)}`
      return call({ action, scope: READ_SCOPE, signal }, async (request) => {
        const answer = await api.repos.compareCommitsWithBasehead({ ...parameters, request })
        const { status } = answer.data
        if (!['ahead', 'behind', 'diverged', 'identical'].includes(status)) throw notGitHub(action)
        return status === 'ahead' || status === 'identical'
      })
    },

    async file(repository, sha, path, signal) {
      // Without a token, the 60 requests per hour are reserved for what matters more.
      if (token === undefined) return null
      const at = { ...ownerAndName(repository), ref: validSha(sha), path }
      const action = `read ${path} of ${shortName({ repository, sha })}`
      return once({ action, scope: READ_SCOPE, signal }, async (request) => {
        const { data } = await api.repos.getContent({ ...at, request })
        if (Array.isArray(data) || data.type !== 'file' || !data.content) return null
        return Buffer.from(data.content, 'base64').toString('utf8')
      })
    },
  }
  return forge
}

/** A description on one line, without control characters, truncated to GitHub's limit. */
export function statusDescription(text: string): string {
  // The rest of a huge text is not needed.
  const line = text.slice(0, 10_000).replace(/[\s\p{Cc}]+/gu, ' ')
  const points = [...line.toWellFormed().trim()]
  if (points.length <= DESCRIPTION_LENGTH) return points.join('')
  return `${points
    .slice(0, DESCRIPTION_LENGTH - 1)
    .join('')
    .trimEnd()}…`
}

/** Describes a call, for its errors. */
interface Call {
  /** Completes "cannot ...". */
  action: string
  /** The scope or permission that the token needs. */
  scope: string
  signal?: AbortSignal | undefined
}

/** Makes the function that sends a request with timeout and retries. */
function caller(options: Omit<GitHubOptions, 'token'> & { token: string | undefined }) {
  const {
    token,
    baseUrl,
    log = () => {},
    requestTimeoutMs = 10_000,
    retryDelaysMs = [1_000, 3_000, 9_000],
  } = options
  return async <T>(what: Call, send: (request: { signal: AbortSignal }) => Promise<T>): Promise<T> => {
    const { signal, action } = what
    let failure: Failure | undefined
    let waited = 0

    const attempt = async () => {
      try {
        signal?.throwIfAborted()
        const timeout = AbortSignal.timeout(requestTimeoutMs)
        return await send({ signal: signal ? AbortSignal.any([signal, timeout]) : timeout })
      } catch (thrown) {
        if (signal?.aborted) throw cancelled(action)
        failure = explainFailure(thrown, { ...what, token, baseUrl, timeoutMs: requestTimeoutMs })
        throw failure.error
      }
    }
    const delays = (failures: number) => {
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

function cancelled(action: string): ConveyorError {
  return new ConveyorError('cancelled', `cannot ${action}: cancelled`)
}

/** Reads a response with a success status. */
function readable<T>(action: string, read: () => T): T {
  try {
    return read()
  } catch {
    throw notGitHub(action)
  }
}

/** Retryable: a truncated response looks like this, too. */
function notGitHub(action: string): ConveyorError {
  return new ConveyorError('unavailable', `cannot ${action}: the response is not from GitHub`, {
    hint: "Check that the base URL is that of GitHub's API (https://HOST/api/v3 for GitHub Enterprise)",
  })
}

function ownerAndName(repository: string): { owner: string; repo: string } {
  const [owner = '', repo = ''] = validRepository(repository).split('/')
  return { owner, repo }
}

/** Other characters would be rejected later, when setting the header, by an error that quotes the token. */
function validToken(token: string | undefined): string | undefined {
  if (token === undefined || token === '') return undefined
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ConveyorError(
    'invalid',
    'the GitHub token contains a space, a line break or a special character',
    {
      hint: 'Set GITHUB_TOKEN to only the token',
    },
  )
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
