import { LOCAL, option, SERVER_ONLY } from '../option.ts'
import { anyText, baseUrl, matching } from '../values.ts'

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
}
