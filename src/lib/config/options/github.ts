import { LOCAL, option, SERVER_ONLY } from '../option.ts'
import { rsaPrivateKey } from '../private-key.ts'
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
  appId: option({
    flag: 'github.app_id',
    env: 'GITHUB_APP_ID',
    help: 'ID or client ID of a GitHub App, in place of a token',
    value: 'id',
    type: matching('the ID of a GitHub App, such as 123456, or its client ID', /^(\d{1,15}|Iv[\w.]{8,60})$/),
    commands: LOCAL,
  }),
  privateKey: option({
    flag: 'github.private_key',
    env: 'GITHUB_PRIVATE_KEY',
    help: 'Private key of the GitHub App',
    value: 'pem',
    type: rsaPrivateKey,
    secret: 'all',
    lines: true,
    commands: LOCAL,
  }),
  installationId: option({
    flag: 'github.installation_id',
    env: 'GITHUB_INSTALLATION_ID',
    help: 'The only installation of the GitHub App to use',
    value: 'id',
    type: matching('a number, the ID of an installation', /^\d{1,15}$/),
    defaultText: 'the one on the repository',
    commands: LOCAL,
  }),
  clientId: option({
    flag: 'github.client_id',
    env: 'GITHUB_CLIENT_ID',
    help: 'Client ID of the GitHub App, with which people sign in',
    value: 'id',
    type: matching('a client ID, such as Iv23li…', /^[\w.]{8,60}$/),
    commands: SERVER_ONLY,
  }),
  clientSecret: option({
    flag: 'github.client_secret',
    env: 'GITHUB_CLIENT_SECRET',
    help: 'Client secret of the GitHub App',
    value: 'secret',
    type: matching('a client secret without spaces or line breaks', /^\S+$/),
    secret: 'all',
    commands: SERVER_ONLY,
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
    help: 'Show the results of builds as check runs (on), which need a GitHub App, as commit statuses (off), or as both',
    value: 'on|off|both',
    type: oneOf('on', 'off', 'both'),
    defaultText: 'on with a GitHub App, otherwise off',
  }),
}
