import type { OptionReader } from './option-reader.ts'
import { baseUrl, gitUrl } from './values.ts'

/** Where GitHub is: its API, and its repositories. */
export interface GitHubPlaces {
  apiUrl: string | null
  /** Template with `{repository}` in it. */
  gitUrl: string | null
  /** The same over ssh, where it follows from that of the API and is not github.com's; else null. */
  enterpriseSsh: string | null
}

const GITHUB_API = 'https://api.github.com'
const GITHUB = 'https://github.com/{repository}.git'

/**
 * Reads both addresses. Where only one is given, the other one is that of the same server: a token is for one, and
 * who runs GitHub Enterprise means no repositories of github.com. What cannot be told is to be given.
 */
export function githubPlaces(options: OptionReader): GitHubPlaces {
  const api = options.get('github.url', 'an http:// or https:// URL without a login, ? and #', baseUrl)
  const git = options.get(
    'git.url',
    'an https://, http://, ssh:// or file:// URL, or git@HOST:PATH, with {repository} in it and no password',
    gitUrl,
  )
  const given = { api: options.has('github.url'), git: options.has('git.url') }
  if (given.git) {
    const needed = !given.api && options.has('github.token') && git !== null
    return { apiUrl: needed ? apiFor(git, options) : api, gitUrl: git, enterpriseSsh: null }
  }
  const web = given.api && api !== null ? webOf(api) : 'https://github.com'
  if (web === null) {
    options.reject(
      'git.url',
      'is not given: expected it too, as --github.url (GITHUB_URL) is not https://HOST/api/v3 of a GitHub Enterprise server',
    )
  }
  if (web === null || web === 'https://github.com') {
    return { apiUrl: api, gitUrl: web && GITHUB, enterpriseSsh: null }
  }
  const enterpriseSsh = `git@${new URL(web).hostname}:{repository}.git`
  return { apiUrl: api, gitUrl: `${web}/{repository}.git`, enterpriseSsh }
}

/**
 * Where people see the server whose API that is; null where it does not say.
 * https://docs.github.com/en/enterprise-server/rest/quickstart, and for ghe.com
 * https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency/about-github-enterprise-cloud-with-data-residency
 */
function webOf(api: string): string | null {
  const { protocol, host, pathname } = new URL(api)
  if (host === 'api.github.com') return 'https://github.com'
  if (/^api\.[\w-]+\.ghe\.com$/.test(host)) return `${protocol}//${host.slice('api.'.length)}`
  return pathname === '/api/v3' ? `${protocol}//${host}` : null
}

/** The API that the token is for, when the repositories are given. */
function apiFor(git: string, options: OptionReader): string | null {
  const scp = /^[^/@:]+@([^/:]+):/.exec(git)?.[1]
  const host = scp ?? URL.parse(git)?.hostname ?? ''
  if (git.startsWith('file:') || /^(www\.|ssh\.)?github\.com$/i.test(host)) return GITHUB_API
  if (/^[\w-]+\.ghe\.com$/i.test(host)) return `https://api.${host}`
  options.reject(
    'github.url',
    `is not given: expected it too, as --git.url (GIT_URL) is not that of github.com and the token is for one server: https://${host}/api/v3 for GitHub Enterprise, ${GITHUB_API} for a token of github.com`,
  )
  return null
}
