import type { Config } from '../config/config.ts'
import type { Account } from '../forge/github/account.ts'
import { loginHint } from '../registry/answer.ts'
import type { Greeting } from '../registry/client.ts'
import { isIdentityToken } from '../registry/identity-token.ts'
import { parseRegistryFlag } from '../registry/image-name.ts'
import { type Check, type Finding, ok, warning } from './check.ts'

/** What is asked of the services around Conveyor. */
export interface Services {
  greetRegistry(host: string, signal: AbortSignal): Promise<Greeting>
  account(signal: AbortSignal): Promise<Account>
}

/** Scopes of a classic token of which one is needed. */
const STATUS_SCOPES = ['repo', 'repo:status']
/** What is left of the rate limit, of all of it, that is worth a word. */
const LITTLE = 0.1

/** The registry and GitHub. */
export function serviceChecks(config: Config, { greetRegistry, account }: Services): Check[] {
  const { host } = parseRegistryFlag(config.registry)
  return [
    { part: 'registry', ask: async (signal) => registry(config, host, await greetRegistry(host, signal)) },
    { part: 'github', ask: async (signal) => github(config, await account(signal)) },
  ]
}

/** Whether it lets us push, only a push tells: the rights are those of each repository. */
function registry({ dry }: Config, host: string, { secure, asks, login }: Greeting): Finding {
  const found = `${host}, ${secure ? 'with' : 'without'} TLS`
  if (login !== null) {
    const whose = isIdentityToken({ username: login }) ? 'identity token' : `login of ${login}`
    return ok(`${found}, takes the ${whose}`)
  }
  if (!asks) return ok(`${found}, asks for no login`)
  if (dry) return ok(`${found}, without a login: nothing is pushed (--dry)`)
  return warning(`${found}, and no login: it will refuse what is pushed`, loginHint(host))
}

function github({ github: { apiUrl, token } }: Config, { login, scopes, rate }: Account): Finding {
  const left = rate === null ? '' : `, ${rate.remaining} of ${rate.limit} requests left in this hour`
  if (token === null) {
    return warning(
      `${apiUrl} without a token: no commit statuses, and no private repositories over https${left}`,
      'Set GITHUB_TOKEN, with the permissions "Commit statuses: write" and "Contents: read"',
    )
  }
  const found = `${apiUrl} as ${login ?? 'an app'}${left}`
  if (scopes && !scopes.some((scope) => STATUS_SCOPES.includes(scope))) {
    return warning(
      `${found}; the token may not set commit statuses`,
      'Give the token in GITHUB_TOKEN the scope repo:status, or repo for private repositories',
    )
  }
  if (rate && rate.remaining < rate.limit * LITTLE) {
    return warning(found, 'Give Conveyor a token of its own: somebody else is using this one up')
  }
  return ok(found)
}
