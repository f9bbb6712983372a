import type { Config } from '../config/config.ts'
import { type AppTokens, appTokens } from '../forge/github/app.ts'
import { type GitHub, type GitHubOptions, github } from '../forge/github/github.ts'
import { type GitHubHooks, githubHooks } from '../forge/github/hooks.ts'
import { githubApi } from '../forge/github/requests.ts'
import { type GitHubTokens, personalTokens } from '../forge/github/tokens.ts'
import { proxyingFetch } from '../net/proxy-dispatcher.ts'
import type { RemoteToken } from '../source/git/remote.ts'

type Retries = Pick<GitHubOptions, 'retryDelaysMs'>

/** The tokens for GitHub: those of an App, or one for all repositories. */
export function openTokens(
  config: Config,
  log: (line: string) => void,
  options: Retries = {},
): GitHubTokens | AppTokens {
  const { app, token } = config.github
  if (app === null) return personalTokens(token ?? undefined)
  return appTokens({ ...app, ...requestsOf(config, log), ...options })
}

/** The token that git sends; undefined without one. */
export function gitToken({ github }: Pick<Config, 'github'>, tokens: GitHubTokens): RemoteToken | undefined {
  if (tokens.kind !== 'app') return github.token ?? undefined
  return async (repository, signal, refused) => {
    if (refused !== undefined) tokens.refused(repository, refused)
    return (await tokens.token(repository, signal)) ?? undefined
  }
}

export function openForge(
  config: Config,
  tokens: GitHubTokens,
  log: (line: string) => void,
  options: Retries = {},
): GitHub {
  return github({ ...requestsOf(config, log), context: config.github.context, tokens, ...options })
}

function requestsOf({ github: { apiUrl }, proxies }: Config, log: (line: string) => void) {
  const fetch = proxyingFetch(proxies)
  return { baseUrl: apiUrl, log, ...(fetch && { fetch }) }
}

/** Webhooks, with the token. */
export function openHooks(config: Config, log: (line: string) => void): GitHubHooks {
  const tokens = personalTokens(config.github.token ?? undefined)
  return githubHooks(githubApi({ ...requestsOf(config, log), tokens }))
}
