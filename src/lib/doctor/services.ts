import type { Config } from '../config/config.ts'
import type { Account } from '../forge/github/account.ts'
import { type AppAccount, missingPermissions } from '../forge/github/app.ts'
import { isIdentityToken } from '../registry/auth-config.ts'
import type { PingResult } from '../registry/client.ts'
import { parseRegistryFlag } from '../registry/naming.ts'
import { loginHint } from '../registry/response.ts'
import { type Check, type Finding, ok, warning } from './check.ts'

/** Requests to the services that Conveyor uses. */
export interface Services {
  pingRegistry(host: string, signal: AbortSignal): Promise<PingResult>
  account(signal: AbortSignal): Promise<Account | AppAccount>
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

function github(config: Config, account: Account | AppAccount): Finding {
  return 'installations' in account ? app(config, account) : user(config, account)
}

/** What keeps builds from working comes first. */
function app(
  { github: { apiUrl } }: Config,
  { name, permissions, events, installations }: AppAccount,
): Finding {
  const where = installations.map(({ account }) => account)
  const found = `${apiUrl} as the App ${name}${where.length > 0 ? `, installed on ${where.join(', ')}` : ''}`
  const missing = missingPermissions(permissions)
  if (missing.length > 0) {
    return warning(
      `${found}; it lacks ${missing.join(', ')}`,
      'Add them under "Permissions & events" in the settings of the App, and accept them where it is installed',
    )
  }
  if (!events.includes('push')) {
    return warning(
      `${found}; it gets no push events`,
      'Subscribe to Push under "Permissions & events" in the settings of the App',
    )
  }
  if (where.length === 0) {
    return warning(`${found}; it is not installed anywhere`, 'Install it on the repositories to build')
  }
  for (const { account, permissions, isSuspended } of installations) {
    if (isSuspended) {
      return warning(`${found}; it is suspended on ${account}`, 'Unsuspend it in the settings of the account')
    }
    const pending = missingPermissions(permissions)
    if (pending.length === 0) continue
    return warning(
      `${found}; ${account} has not granted ${pending.join(', ')}`,
      `An owner of ${account} has to accept the new permissions of the App`,
    )
  }
  return ok(found)
}

function user({ github: { apiUrl, token } }: Config, { login, scopes, rate }: Account): Finding {
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
