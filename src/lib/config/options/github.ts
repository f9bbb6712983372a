import { LOCAL, option, SERVER_ONLY } from '../option.ts'
import { anyText, baseUrl, matching, oneOf } from '../values.ts'

const contextName = matching(
  'up to 100 characters, without spaces around them',
  /^(?=[^\s])[^\p{Cc}]{1,100}(?<=[^\s])$/u,
)

/** GitHub's API and webhooks. */
export const GITHUB = {
  token: option({
    flag: 'github.token',
    env: 'GITHUB_TOKEN',
    help: 'GitHub API token for setting commit statuses, looking up branches, and reading private repositories',
    value: 'token',
    type: matching('a token without spaces or line breaks', /^\S+$/),
    secret: 'all',
    commands: LOCAL,
  }),
  secret: option({
    flag: 'github.secret',
    env: 'GITHUB_SECRET',
    help: 'Webhook secret; without one, a push triggers a build of the current head of its branch on GitHub',
    value: 'secret',
    type: anyText,
    secret: 'all',
    commands: SERVER_ONLY,
  }),
  apiUrl: option({
    flag: 'github.url',
    env: 'GITHUB_URL',
    help: 'Base URL of the GitHub API (GitHub Enterprise: https://HOST/api/v3)',
    value: 'url',
    type: baseUrl,
    default: 'https://api.github.com',
    commands: LOCAL,
  }),
  context: option({
    flag: 'github.context',
    env: 'GITHUB_CONTEXT',
    help: 'Name of the commit statuses and check runs, as branch protection rules require it',
    value: 'name',
    type: contextName,
    default: 'container/docker',
  }),
  checks: option({
    flag: 'checks',
    env: 'CHECKS',
    help: 'Where results are shown on commits: as check runs (on), as commit statuses (off), or as both; check runs need a GitHub App',
    value: 'mode',
    type: oneOf('on', 'off', 'both'),
    defaultText: 'on with a GitHub App, otherwise off',
  }),
}
