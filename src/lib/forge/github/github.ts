import { setTimeout as delay } from 'node:timers/promises'
import { Octokit } from '@octokit/rest'
import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'
import type { CommitStatus, Forge } from '../forge.ts'
import { type Account, askAccount } from './account.ts'
import { explainFailure, seconds } from './errors.ts'

export interface GitHubOptions {
  /** Base URL of the REST API: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise. */
  baseUrl: string
  /** Without one, statuses are not set and only public repositories can be looked up. */
  token?: string
  userAgent?: string
  /** Sends the requests, e.g. through a proxy; by default Node's own. */
  fetch?: typeof globalThis.fetch
  /** Longest time for one request, in milliseconds; 10,000 by default. */
  requestTimeoutMs?: number
  /** Waits between tries, in milliseconds; one try more than there are waits. */
  retryDelaysMs?: readonly number[]
  /** Waits; tests put their own here. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<unknown>
  /** Gets one line for each thing that the operator should know. */
  log?: (line: string) => void
}

/** GitHub, of which can also be asked who we are to it. */
export interface GitHub extends Forge {
  /** @throws ConveyorError `unauthorized` when the token is not valid, `unavailable` */
  account(signal?: AbortSignal): Promise<Account>
}

const CONTEXT = 'container/docker'
/** GitHub's limit. */
const DESCRIPTION_LENGTH = 140
/** The version whose answers are read here: https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28'
/** In all tries of one call together. A rate limit that lasts longer is an error at once. */
const LONGEST_WAIT_MS = 60_000

const MAY_SET_STATUS = 'the scope repo:status (classic) or the permission "Commit statuses: write"'
const MAY_READ = 'the scope repo (classic) or the permission "Contents: read"'

/**
 * GitHub, or GitHub Enterprise, as a Forge. Every request has a timeout; network errors, 5xx answers and
 * rate limits are tried again. No error that leaves here carries the token.
 * @throws ConveyorError `invalid` if the base URL or the token cannot be right.
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
  let saidOff = false
  /** Repositories that are said to be archived. */
  const archived = new Set<string>()

  /** Whether a repository can only be read; false also where GitHub does not say. */
  async function isArchived(repository: string, signal: AbortSignal | undefined): Promise<boolean> {
    const action = `ask whether ${repository} is archived`
    const asking = once({ action, scope: MAY_READ, signal }, async (request) => {
      const { data } = await api.repos.get({ ...ownerAndName(repository), request })
      return data.archived === true
    })
    return asking.catch((error: ConveyorError) => {
      if (error.kind === 'cancelled') throw error
      return false // why the status is not taken says more
    })
  }

  const forge: GitHub = {
    account(signal) {
      const action = 'ask GitHub who we are'
      const asking = call({ action, scope: MAY_SET_STATUS, signal }, (request) =>
        askAccount(api, token !== undefined, request),
      )
      return asking.catch((error: ConveyorError) => {
        throw error.kind === 'not_found' ? notGitHub(action) : error
      })
    },

    async setStatus({ repository, sha, state, description, targetUrl }: CommitStatus, signal) {
      if (token === undefined) {
        if (!saidOff) log('no GITHUB_TOKEN: commit statuses are off')
        saidOff = true
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
        await call({ action, scope: MAY_SET_STATUS, signal }, async (request) => {
          const answer = await api.repos.createCommitStatus({ ...status, request })
          if (answer.data.state !== state) throw notGitHub(action)
        })
        archived.delete(repository)
      } catch (error) {
        if (!(error instanceof ConveyorError && error.kind === 'unauthorized')) throw error
        if (!(await isArchived(repository, signal))) throw error
        if (!archived.has(repository))
          log(`${repository} is archived at GitHub, where it gets no commit statuses`)
        archived.add(repository)
      }
    },

    async branchHead(repository, branch) {
      const name = validRefName(branch)
      const at = ownerAndName(repository)
      const action = `look up the branch "${name}" of ${repository}`
      try {
        return await call({ action, scope: MAY_READ }, async (request) => {
          const answer = await api.git.getRef({ ...at, ref: `heads/${name}`, request })
          return readable(action, () => validSha(answer.data.object.sha))
        })
      } catch (error) {
        if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
        // GitHub does not say which of the two is unknown to it: ask, and else leave it at its 404.
        const main = await forge.defaultBranch(repository).catch(() => {
          throw error
        })
        throw name === main
          ? new ConveyorError('not_found', `${repository} has no commits yet`, {
              hint: 'Push a commit first',
            })
          : new ConveyorError('not_found', `${repository} has no branch "${name}"`, {
              hint: `Check the branch's name; the default branch is "${main}"`,
            })
      }
    },

    async defaultBranch(repository) {
      const at = ownerAndName(repository)
      const action = `look up the default branch of ${repository}`
      return call({ action, scope: MAY_READ }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRefName(answer.data.default_branch))
      })
    },

    async fullName(repository) {
      const at = ownerAndName(repository)
      const action = `look up how ${repository} is spelled`
      return once({ action, scope: MAY_READ }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRepository(answer.data.full_name))
      })
    },

    async contains(repository, head, sha, signal) {
      // Without a token, 60 requests an hour are for what nobody else can tell.
      if (token === undefined) return null
      const basehead = `${validSha(sha)}...${validSha(head)}`
      // The second page has neither files nor, most often, commits.
      const asked = { ...ownerAndName(repository), basehead, per_page: 1, page: 2 }
      const action = `compare ${shortName({ repository, sha })} with ${head.slice(0, 7)}`
      return call({ action, scope: MAY_READ, signal }, async (request) => {
        const answer = await api.repos.compareCommitsWithBasehead({ ...asked, request })
        const { status } = answer.data
        if (!['ahead', 'behind', 'diverged', 'identical'].includes(status)) throw notGitHub(action)
        return status === 'ahead' || status === 'identical'
      })
    },

    async file(repository, sha, path, signal) {
      // Without a token, 60 requests an hour are for all that matters more.
      if (token === undefined) return null
      const at = { ...ownerAndName(repository), ref: validSha(sha), path }
      const action = `read ${path} of ${shortName({ repository, sha })}`
      return once({ action, scope: MAY_READ, signal }, async (request) => {
        const { data } = await api.repos.getContent({ ...at, request })
        if (Array.isArray(data) || data.type !== 'file' || !data.content) return null
        return Buffer.from(data.content, 'base64').toString('utf8')
      })
    },
  }
  return forge
}

/** On one line, without control characters, and not longer than GitHub takes it. */
export function statusDescription(text: string): string {
  // The whole of a huge text need not be looked at.
  const line = text.slice(0, 10_000).replace(/[\s\p{Cc}]+/gu, ' ')
  const points = [...line.toWellFormed().trim()]
  if (points.length <= DESCRIPTION_LENGTH) return points.join('')
  return `${points
    .slice(0, DESCRIPTION_LENGTH - 1)
    .join('')
    .trimEnd()}…`
}

/** What one call is about, for its errors. */
interface Call {
  /** Completes "cannot ...". */
  action: string
  /** What the token needs to be allowed to do. */
  scope: string
  signal?: AbortSignal | undefined
}

/** Makes the function that sends one request, with its timeout and retries. */
function caller(options: Omit<GitHubOptions, 'token'> & { token: string | undefined }) {
  const {
    token,
    baseUrl,
    log = () => {},
    requestTimeoutMs = 10_000,
    retryDelaysMs = [1_000, 3_000, 9_000],
  } = options
  const sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, signal ? { signal } : {}))

  return async <T>(what: Call, send: (request: { signal: AbortSignal }) => Promise<T>): Promise<T> => {
    const { signal, action } = what
    let waited = 0
    for (let tries = 0; ; tries++) {
      try {
        signal?.throwIfAborted()
        const timeout = AbortSignal.timeout(requestTimeoutMs)
        return await send({ signal: signal ? AbortSignal.any([signal, timeout]) : timeout })
      } catch (thrown) {
        if (signal?.aborted) throw cancelled(action)
        const { error, waitMs } = explainFailure(thrown, {
          ...what,
          token,
          baseUrl,
          timeoutMs: requestTimeoutMs,
        })
        const wait = Math.max(waitMs ?? 0, retryDelaysMs[tries] ?? 0)
        if (!error.retryable || tries >= retryDelaysMs.length || waited + wait > LONGEST_WAIT_MS) throw error
        waited += wait
        log(`${error.message}; trying again in ${seconds(wait)}`)
        await sleep(wait, signal).catch((reason: unknown) => {
          throw signal?.aborted ? cancelled(action) : reason
        })
      }
    }
  }
}

function cancelled(action: string): ConveyorError {
  return new ConveyorError('cancelled', `cannot ${action}: cancelled`)
}

/** Reads an answer that came with the status of success. */
function readable<T>(action: string, read: () => T): T {
  try {
    return read()
  } catch {
    throw notGitHub(action)
  }
}

/** Worth a retry: an answer that was cut off looks like this, too. */
function notGitHub(action: string): ConveyorError {
  return new ConveyorError('unavailable', `cannot ${action}: the answer is not one of GitHub's`, {
    hint: "Check that the base URL is that of GitHub's API (https://HOST/api/v3 for GitHub Enterprise)",
  })
}

function ownerAndName(repository: string): { owner: string; repo: string } {
  const [owner = '', repo = ''] = validRepository(repository).split('/')
  return { owner, repo }
}

/** A header with other characters would be refused later, by an error that quotes the token. */
function validToken(token: string | undefined): string | undefined {
  if (token === undefined || token === '') return undefined
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ConveyorError(
    'invalid',
    'the GitHub token contains a space, a line break or a special character',
    {
      hint: 'Set GITHUB_TOKEN to the token alone',
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
