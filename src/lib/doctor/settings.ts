import type { BuildkitAddress } from '../buildkit/address.ts'
import type { Config } from '../config/config.ts'
import { isBehindProxy } from '../net/behind-proxy.ts'
import { isLoopback } from '../net/loopback.ts'
import { type Check, type Finding, ok, warning } from './check.ts'

/** Settings of a server that are valid, but rarely intended. */
export function settingChecks(config: Config): Check[] {
  return [
    { part: 'webhooks', run: () => webhooks(config) },
    { part: 'links', run: () => links(config) },
    { part: 'api', run: () => api(config) },
  ]
}

function webhooks({ github: { secret } }: Config): Finding {
  if (secret !== null) return ok('accepted if signed with the secret')
  return warning(
    'no secret is set: pushes are accepted from anyone; only the head of the branch, as GitHub reports it, is built',
    'Set the same secret for the webhook on GitHub and here: --github.secret (GITHUB_SECRET)',
  )
}

function links({ url, port, github: { checks } }: Config): Finding {
  const what = { off: 'commit statuses', on: 'check runs', both: 'commit statuses and check runs' }[checks]
  if (url !== null) return ok(`${what} link to ${url}`)
  return warning(
    `${what} link to http://localhost:${port || 'PORT'}`,
    "Set the server's public URL: --url (BASE_URL)",
  )
}

const SET_AUTH = 'Set BASIC_AUTH=user:pass'

function api(config: Config): Finding {
  const { auth, host, url, github } = config
  const signIn = github.login === null ? '' : ', or a sign-in with GitHub'
  if (auth === 'none') {
    const found = 'API and logs are open to anyone who can reach the server'
    return isLoopback(host) ? ok(`open, on ${host} only`) : warning(found, `${SET_AUTH} instead of none`)
  }
  if (auth !== null) return ok(`requires the login of ${auth.username}${signIn}`)
  if (url !== null && isBehindProxy(url)) {
    return warning(`requires a token${signIn}: no login is set, and a proxy serves ${url}`, SET_AUTH)
  }
  const steps = localSteps(config)
  if (steps === null) return ok(`accepts requests only from this machine${signIn}`)
  return warning(`accepts requests only from this machine${signIn}, but that includes ${steps}`, SET_AUTH)
}

/** Describes build steps that can reach the loopback interface of their machine; null if none can. */
function localSteps({ builder, build: { network } }: Config): string | null {
  if (network === 'host') return "build steps on the engine's host network (--build.network)"
  if ('network' in builder && builder.network === 'host') {
    return "builds on the engine's host network (--builder.network)"
  }
  // A buildkitd without CNI plugins runs steps on its own network, and does not report that.
  const isNear = builder.kind === 'buildkit' && [...builder.addresses.values()].some(isLocal)
  return isNear && network !== 'none'
    ? 'build steps of a buildkitd that has no separate network for them'
    : null
}

function isLocal(address: BuildkitAddress): boolean {
  return 'path' in address || isLoopback(address.host)
}
