import type { Config } from '../config.ts'
import { type Check, type Finding, ok, warning } from './check.ts'

/** Settings of a server that nothing refuses, and that few people mean. */
export function settingChecks(config: Config): Check[] {
  return [
    { part: 'webhooks', ask: () => webhooks(config) },
    { part: 'links', ask: () => links(config) },
    { part: 'api', ask: () => api(config) },
  ]
}

function webhooks({ github: { secret } }: Config): Finding {
  if (secret !== null) return ok('taken when they are signed with the secret')
  return warning(
    'taken from anybody, as no secret is set',
    'Give a secret to the webhook at GitHub, and the same here: --github.secret (GITHUB_SECRET)',
  )
}

function links({ url, port }: Config): Finding {
  if (url !== null) return ok(`commit statuses link to ${url}`)
  return warning(
    `commit statuses link to http://localhost:${port || 'PORT'}`,
    'Give the address that people open: --url (BASE_URL)',
  )
}

function api({ auth, host }: Config): Finding {
  if (auth !== null) return ok(`asks for the login of ${auth.username}`)
  if (/^(localhost|127\..*|::1)$/.test(host)) return ok(`open, on ${host} only`)
  return warning(
    'open to all who reach the server, as the logs are',
    'Give --auth user:pass (BASIC_AUTH), unless what is before the server asks for a login',
  )
}
