import type { Config } from '../config/config.ts'
import type { Account } from '../forge/github/account.ts'
import { isIdentityToken } from '../registry/auth-config.ts'
import type { PingResult } from '../registry/client.ts'
import { parseRegistryFlag } from '../registry/naming.ts'
import { loginHint } from '../registry/response.ts'
import { type Check, type Finding, ok, warning } from './check.ts'

/** Requests to the services that Conveyor uses. */
export interface Services {
  pingRegistry(host: string, signal: AbortSignal): Promise<PingResult>
  account(signal: AbortSignal): Promise<Account>
}

/** Scopes of a classic token; one of them is required. */
const STATUS_SCOPES = ['repo', 'repo:status']
/** Remaining share of the rate limit below which a warning is due. */
const LOW_RATE = 0.1

/** The registry and GitHub. */
export function serviceChecks(config: Config, { pingRegistry, account }: Services): Check[] {
  const { host } = parseRegistryFlag(config.registry)
  return [
    { part: 'registry', run: async (signal) => registry(config, host, await pingRegistry(host, signal)) },
    { part: 'github', run: async (signal) => github(config, await account(signal)) },
  ]
}

/** Whether pushing is permitted only a push can tell, because permissions are per repository. */
function registry({ dry }: Config, host: string, { secure, asks, login }: PingResult): Finding {
  const found = `${host}, ${secure ? 'with' : 'without'} TLS`
  if (login !== null) {
    const whose = isIdentityToken({ username: login }) ? 'identity token' : `login of ${login}`
    return ok(`${found}, accepts the ${whose}`)
  }
  if (!asks) return ok(`${found}, requires no login`)
  if (dry) return ok(`${found}, not logged in; nothing is pushed (--dry)`)
  return warning(`${found}, not logged in: pushes will be refused`, loginHint(host))
}

function github({ github: { apiUrl, token } }: Config, { login, scopes, rate }: Account): Finding {
  const left = rate === null ? '' : `, ${rate.remaining} of ${rate.limit} requests left this hour`
  if (token === null) {
    return warning(
      `${apiUrl} without a token: no commit statuses, and no private repositories over HTTPS${left}`,
      'Set GITHUB_TOKEN, with the permissions "Commit statuses: write" and "Contents: read"',
    )
  }
  const found = `${apiUrl} as ${login ?? 'an app'}${left}`
  if (scopes && !scopes.some((scope) => STATUS_SCOPES.includes(scope))) {
    return warning(
      `${found}; the token cannot set commit statuses`,
      'Grant the token in GITHUB_TOKEN the scope repo:status, or repo for private repositories',
    )
  }
  if (rate && rate.remaining < rate.limit * LOW_RATE) {
    return warning(
      found,
      'Use a separate token for Conveyor; something else is using up the limit of this one',
    )
  }
  return ok(found)
}
