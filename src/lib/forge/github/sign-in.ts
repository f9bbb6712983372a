import type { Scope } from '../../core/access/access-token.ts'
import { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { validRepository } from '../../core/validate.ts'
import { wholeBody } from '../../net/bodies.ts'
import { boundedJson } from '../../util/bounded-json.ts'
import type { SignIn } from '../sign-in.ts'
import { type GitHubApi, type GitHubRequestOptions, githubApi, readable } from './requests.ts'
import { validLogin } from './texts.ts'
import { personalTokens } from './tokens.ts'

export interface GitHubSignInOptions extends GitHubRequestOptions {
  /** Where people see repositories: `https://github.com`. */
  webUrl: string
  clientId: string
  clientSecret: string
}

/** So many pages of 100 repositories are read for a person, in all installations together. */
const MOST_PAGES = 50
const MOST_ANSWER_BYTES = 64 * 1024
const EXCHANGE_MS = 10_000
const LONGEST_TOKEN = 4096
const ACTION = 'sign in with GitHub'

/**
 * The web flow of a GitHub App, with PKCE.
 * https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
 */
export function githubSignIn(options: GitHubSignInOptions): SignIn {
  const { webUrl, clientId, clientSecret, log = () => {} } = options
  const send = options.fetch ?? globalThis.fetch
  const apiOf = (token: string) => githubApi({ ...options, tokens: personalTokens(token) })

  return {
    url({ state, challenge, redirectUri }) {
      const url = new URL(`${webUrl}/login/oauth/authorize`)
      const parameters = { client_id: clientId, redirect_uri: redirectUri, state }
      const pkce = { code_challenge: challenge, code_challenge_method: 'S256' }
      url.search = new URLSearchParams({ ...parameters, ...pkce }).toString()
      return url.href
    },

    async finish({ code, verifier, redirectUri }, signal) {
      const body = { client_id: clientId, client_secret: clientSecret, code, redirect_uri: redirectUri }
      const timeout = AbortSignal.timeout(EXCHANGE_MS)
      const answer = await post(send, `${webUrl}/login/oauth/access_token`, {
        body: { ...body, code_verifier: verifier },
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      })
      const { access_token: token, expires_in: expiresIn } = answer
      if (typeof token !== 'string' || token === '' || token.length > LONGEST_TOKEN) {
        // A code is valid once, and for ten minutes.
        throw new ConveyorError('unauthorized', `cannot ${ACTION}: GitHub did not accept the code`, {
          hint: 'Sign in again. If that does not help, check --github.client_id and --github.client_secret',
        })
      }
      const { octokit, call } = apiOf(token)
      const action = 'look up who signs in'
      const person = await call({ action, need: null, repository: null, signal }, async (request) => {
        const { data } = await octokit.users.getAuthenticated({ request })
        return readable(action, () => ({ id: validId(data.id), login: validLogin(data.login) }))
      })
      const hasEnd = typeof expiresIn === 'number' && Number.isSafeInteger(expiresIn) && expiresIn > 0
      return { person, token, expiresInSeconds: hasEnd ? expiresIn : null }
    },

    async roles(token, signal) {
      const { octokit, call }: GitHubApi = apiOf(token)
      const about = {
        action: 'look up the repositories of a person',
        need: null,
        repository: null,
        signal,
      }
      const roles = new Map<string, Scope>()
      const installations = await call(about, async (request) => {
        const { data } = await octokit.apps.listInstallationsForAuthenticatedUser({ per_page: 100, request })
        return readable(about.action, () => data.installations.map(({ id }) => validId(id)))
      })
      let pages = 0
      for (const installation_id of installations) {
        for (let page = 1; ; page += 1) {
          if (pages++ === MOST_PAGES) {
            log(`warning: somebody who is signed in has access to more than ${MOST_PAGES * 100} repositories`)
            return roles
          }
          const repositories = await call(about, async (request) => {
            const asked = { installation_id, per_page: 100, page, request }
            const { data } = await octokit.apps.listInstallationReposForAuthenticatedUser(asked)
            return readable(about.action, () =>
              data.repositories.map(({ full_name, permissions }) => ({
                name: repositoryKey(validRepository(full_name)),
                role: roleOf(permissions),
              })),
            )
          })
          for (const { name, role } of repositories) if (role !== null) roles.set(name, role)
          if (repositories.length < 100) break
        }
      }
      return roles
    },
  }
}

function roleOf(permissions: { admin?: boolean; push?: boolean; pull?: boolean } | undefined): Scope | null {
  if (permissions?.admin === true) return 'admin'
  if (permissions?.push === true) return 'build'
  return permissions?.pull === true ? 'read' : null
}

/** Posts a form's data as JSON. @throws ConveyorError `unavailable`, which quotes nothing */
async function post(
  send: typeof globalThis.fetch,
  url: string,
  { body, signal }: { body: Record<string, string>; signal: AbortSignal },
): Promise<Record<string, unknown>> {
  const failed = (why: string, hint?: string) =>
    new ConveyorError('unavailable', `cannot ${ACTION}: ${why}`, hint === undefined ? {} : { hint })
  const answer = await send(url, {
    method: 'POST',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    body: JSON.stringify(body),
    redirect: 'error',
    signal,
  }).catch(() => {
    throw failed(
      'GitHub cannot be reached',
      `Check that ${new URL(url).origin} can be reached from the server`,
    )
  })
  if (!answer.ok) {
    await answer.body?.cancel()
    throw failed(`GitHub answered ${answer.status}`)
  }
  try {
    const whole = answer.body && (await wholeBody(answer.body, MOST_ANSWER_BYTES))
    const parsed: unknown = whole && boundedJson(whole)
    if (typeof parsed === 'object' && parsed !== null) return { ...parsed }
  } catch {
    // The same as any other answer that is not GitHub's.
  }
  throw failed('the response is not from GitHub')
}

function validId(id: unknown): number {
  if (Number.isSafeInteger(id)) return id as number
  throw new Error('not an id')
}
