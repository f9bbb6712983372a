import { existsSync } from 'node:fs'
import type { Config } from '../config/config.ts'
import { appFile, createAppFile } from '../config/github/app-file.ts'
import { toConveyorError } from '../core/errors.ts'
import { type AppTokens, appTokens, openApi } from '../forge/github/app.ts'
import { type GitHub, type GitHubOptions, github } from '../forge/github/github.ts'
import { type GitHubHooks, githubHooks } from '../forge/github/hooks.ts'
import {
  appManifest,
  convertManifest,
  type MadeApp,
  manifestTarget,
  setAppSecret,
  validCode,
} from '../forge/github/manifest.ts'
import { githubApi } from '../forge/github/requests.ts'
import { githubSignIn } from '../forge/github/sign-in.ts'
import { type GitHubTokens, personalTokens } from '../forge/github/tokens.ts'
import type { SignIn } from '../forge/sign-in.ts'
import { proxyingFetch } from '../net/proxy-dispatcher.ts'
import type { AppSetup } from '../server/setup/app-setup.ts'
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

/** How people sign in; null if they cannot. */
export function openSignIn(config: Config, log: (line: string) => void): SignIn | null {
  const { login, webUrl } = config.github
  if (login === null || webUrl === null) return null
  return githubSignIn({ ...login, webUrl, ...requestsOf(config, log) })
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

/** The page on which a GitHub App is made for this server. @param baseUrl of the server */
export function openAppSetup(config: Config, baseUrl: () => string, log: (line: string) => void): AppSetup {
  const { dataDir, github } = config
  const file = appFile(dataDir)
  return {
    origin: github.webUrl,

    form(organization, state) {
      const base = baseUrl()
      const manifest = appManifest({
        ...{ base, webhook: `${base}/webhooks/github`, redirect: `${base}/setup/callback` },
        login: `${base}/login/callback`,
      })
      return { action: manifestTarget(github.webUrl ?? '', organization, state), manifest }
    },

    existing: () => (existsSync(file) ? file : null),

    async complete(code) {
      // First, because the code works only once.
      const kept = createAppFile(dataDir)
      let app: MadeApp
      try {
        const requests = requestsOf(config, log)
        app = await convertManifest(
          githubApi({ ...requests, tokens: personalTokens(undefined) }),
          validCode(code),
        )
      } catch (error) {
        kept.discard()
        throw error
      }
      const { id, privateKey, clientId, clientSecret, webhookSecret } = app
      kept.write({ id, privateKey, clientId, clientSecret, webhookSecret })
      const notes = github.token === null ? [] : [REMOVE_TOKEN]
      const note = await shareSecret(config, app, log)
      return { name: app.name, installUrl: `${app.url}/installations/new`, file, notes: [...notes, ...note] }
    },
  }
}

const REMOVE_TOKEN = 'Remove GITHUB_TOKEN from the settings: while there is a token, the App is not used.'

/** A secret that the server has already signs other webhooks, so that the App gets the same one. */
async function shareSecret(config: Config, app: MadeApp, log: (line: string) => void): Promise<string[]> {
  const { secret } = config.github
  if (secret === null || secret === app.webhookSecret) return []
  try {
    const api = await openApi({ ...requestsOf(config, log), ...app, installationId: null })
    await setAppSecret(api, secret)
    return []
  } catch (error) {
    log(`GitHub App ${app.name}: ${toConveyorError(error, 'its secret could not be set').advice}`)
    return [
      'Set the secret of the App’s webhook, in its settings on GitHub, to the GITHUB_SECRET of the server.',
    ]
  }
}
