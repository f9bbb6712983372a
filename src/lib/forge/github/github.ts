import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'
import type { CommitStatus, Forge } from '../forge.ts'
import { type Account, fetchAccount } from './account.ts'
import { setCheckRun } from './checks.ts'
import type { Need } from './errors.ts'
import { pullRequests } from './pulls.ts'
import { type GitHubRequestOptions, githubApi, notGitHub, ownerAndName, readable } from './requests.ts'
import { shortLine } from './texts.ts'
import { type GitHubTokens, personalTokens } from './tokens.ts'

export interface GitHubOptions extends GitHubRequestOptions {
  /** A personal token. Without any token, no statuses are set, and only public repositories are visible. */
  token?: string
  /** In place of `token`. */
  tokens?: GitHubTokens
  /** The name of commit statuses and check runs; `container/docker` by default. */
  context?: string
}

/** A Forge that can also look up its own account. */
export interface GitHub extends Forge {
  /** @throws ConveyorError `unauthorized` when the token is not valid, `unavailable` */
  account(signal?: AbortSignal): Promise<Account>
}

/** GitHub's limit. */
const DESCRIPTION_LENGTH = 140

const SET_STATUS: Need = { scope: 'repo:status', permission: 'Commit statuses: write' }
// A token never gets this far: GitHub denies it check runs.
const SET_CHECK: Need = { scope: 'repo', permission: 'Checks: write' }
const READ: Need = { scope: 'repo', permission: 'Contents: read' }

/**
 * GitHub, or GitHub Enterprise, as a Forge. Every request has a timeout; network errors, 5xx answers and
 * rate limits are retried. No error contains the token.
 * @throws ConveyorError `invalid` if the base URL or the token is malformed
 */
export function github(options: GitHubOptions): GitHub {
  const { log = () => {}, context = 'container/docker' } = options
  const tokens = options.tokens ?? personalTokens(options.token)
  const { octokit: api, call, once } = githubApi({ ...options, tokens })
  let loggedDisabled = false
  /** Repositories that have been logged as archived. */
  const archived = new Set<string>()

  /** Whether a repository is archived, and so read-only; false also if GitHub does not tell. */
  async function isArchived(repository: string, signal: AbortSignal | undefined): Promise<boolean> {
    const action = `check whether ${repository} is archived`
    const request = once({ action, need: READ, repository, signal }, async (options) => {
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
      const account = call({ action, need: SET_STATUS, repository: null, signal }, (request) =>
        fetchAccount(api, tokens.kind !== 'none', request),
      )
      return account.catch((error: ConveyorError) => {
        throw error.kind === 'not_found' ? notGitHub(action) : error
      })
    },

    async setStatus({ repository, sha, state, description, targetUrl }: CommitStatus, signal) {
      if (tokens.kind === 'none') {
        if (!loggedDisabled) log('GITHUB_TOKEN is not set: commit statuses are disabled')
        loggedDisabled = true
        return
      }
      const status = {
        ...ownerAndName(repository),
        sha: validSha(sha),
        state,
        context,
        description: statusDescription(description),
        target_url: targetUrl,
      }
      const action = `set the commit status of ${shortName({ repository, sha })}`
      try {
        const about = { action, need: SET_STATUS, repository, signal, write: true }
        await call(about, async (request) => {
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

    async setCheckRun(run, known, signal) {
      if (tokens.kind === 'none') return null
      const { repository } = run
      const action = `set the check run of ${shortName(run)}`
      const about = { action, need: SET_CHECK, repository, signal, write: true }
      const at = ownerAndName(repository)
      return setCheckRun(run, known, { api, at, action, name: context, send: (send) => call(about, send) })
    },

    async branchHead(repository, branch) {
      const name = validRefName(branch)
      const at = ownerAndName(repository)
      const action = `look up the branch "${name}" of ${repository}`
      try {
        return await call({ action, need: READ, repository }, async (request) => {
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
      return call({ action, need: READ, repository }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRefName(answer.data.default_branch))
      })
    },

    async fullName(repository) {
      const at = ownerAndName(repository)
      const action = `look up the full name of ${repository}`
      return once({ action, need: READ, repository }, async (request) => {
        const answer = await api.repos.get({ ...at, request })
        return readable(action, () => validRepository(answer.data.full_name))
      })
    },

    async contains(repository, head, sha, signal) {
      // Without a token, the 60 requests per hour are reserved for what git cannot tell.
      if (tokens.kind === 'none') return null
      const basehead = `${validSha(sha)}...${validSha(head)}`
      // The second page has no files and, in most cases, no commits.
      const parameters = { ...ownerAndName(repository), basehead, per_page: 1, page: 2 }
      const action = `compare ${shortName({ repository, sha })} with ${head.slice(0, 7)}`
      return call({ action, need: READ, repository, signal }, async (request) => {
        const answer = await api.repos.compareCommitsWithBasehead({ ...parameters, request })
        const { status } = answer.data
        if (!['ahead', 'behind', 'diverged', 'identical'].includes(status)) throw notGitHub(action)
        return status === 'ahead' || status === 'identical'
      })
    },

    ...pullRequests({ octokit: api, call, once }),

    async file(repository, sha, path, signal) {
      // Without a token, the 60 requests per hour are reserved for what matters more.
      if (tokens.kind === 'none') return null
      const at = { ...ownerAndName(repository), ref: validSha(sha), path }
      const action = `read ${path} of ${shortName({ repository, sha })}`
      return once({ action, need: READ, repository, signal }, async (request) => {
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
  return shortLine(text, DESCRIPTION_LENGTH)
}
