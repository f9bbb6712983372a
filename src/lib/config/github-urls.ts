import type { OptionReader } from './option-reader.ts'
import { GIT } from './options/git.ts'
import { GITHUB } from './options/github.ts'
import type { Settings } from './options.ts'

/** Where GitHub's API and its repositories are. */
export interface GitHubUrls {
  apiUrl: string
  /** Template with `{repository}` in it. */
  gitUrl: string
  /** The same over SSH, where it was derived from the URL of an API that is not github.com's; else null. */
  enterpriseSsh: string | null
}

const GITHUB_API = 'https://api.github.com'

/**
 * Where only one of the two URLs is given, the other one is derived for the same server: a token is valid for one
 * server, and users of GitHub Enterprise do not mean repositories on github.com. What cannot be derived is required.
 */
export function githubUrls({ github, git }: Settings, reader: OptionReader): GitHubUrls {
  const unchanged = { apiUrl: github.apiUrl, gitUrl: git.url, enterpriseSsh: null }
  if (reader.isGiven(GIT.url)) {
    const hasToken = reader.isGiven(GITHUB.token) || reader.isGiven(GITHUB.appId)
    const needsApi = hasToken && !reader.isGiven(GITHUB.apiUrl)
    return needsApi ? { ...unchanged, apiUrl: apiFor(git.url, reader) } : unchanged
  }
  const web = webOf(github.apiUrl)
  if (web === null) {
    reader.reject(
      GIT.url,
      'is required, because --github.url (GITHUB_URL) is not https://HOST/api/v3 of a GitHub Enterprise server',
    )
  }
  if (web === null || web === 'https://github.com') return unchanged
  const enterpriseSsh = `git@${new URL(web).hostname}:{repository}.git`
  return { apiUrl: github.apiUrl, gitUrl: `${web}/{repository}.git`, enterpriseSsh }
}

/**
 * The website of the server with this API; null where the URL does not tell.
 * https://docs.github.com/en/enterprise-server/rest/quickstart, and for ghe.com
 * https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency/about-github-enterprise-cloud-with-data-residency
 */
export function webOf(api: string): string | null {
  const { protocol, host, pathname } = new URL(api)
  if (host === 'api.github.com') return 'https://github.com'
  if (/^api\.[\w-]+\.ghe\.com$/.test(host)) return `${protocol}//${host.slice('api.'.length)}`
  return pathname === '/api/v3' ? `${protocol}//${host}` : null
}

/** The API that the token is valid for, derived from the URL of the repositories. */
function apiFor(git: string, reader: OptionReader): string {
  const scp = /^[^/@:]+@([^/:]+):/.exec(git)?.[1]
  const host = scp ?? URL.parse(git)?.hostname ?? ''
  if (git.startsWith('file:') || /^(www\.|ssh\.)?github\.com$/i.test(host)) return GITHUB_API
  if (/^[\w-]+\.ghe\.com$/i.test(host)) return `https://api.${host}`
  reader.reject(
    GITHUB.apiUrl,
    `is required, because --git.url (GIT_URL) is not on github.com and the token is valid for only one server: set https://${host}/api/v3 for GitHub Enterprise, or ${GITHUB_API} for a github.com token`,
  )
  return GITHUB_API
}
