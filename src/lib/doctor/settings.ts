import type { BuildkitAddress } from '../buildkit/address.ts'
import type { Config } from '../config/config.ts'
import { isLoopback } from '../net/loopback.ts'
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
    'taken from anybody, as no secret is set: the head of the branch is asked of GitHub, and built',
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

const SET_AUTH = 'Set BASIC_AUTH=user:pass'

function api(config: Config): Finding {
  const { auth, host } = config
  if (auth === 'none') {
    const found = 'open to all who reach the server, as the logs are'
    return isLoopback(host) ? ok(`open, on ${host} only`) : warning(found, `${SET_AUTH} instead of none`)
  }
  if (auth !== null) return ok(`asks for the login of ${auth.username}`)
  const steps = stepsHere(config)
  if (steps === null) return ok('answers this machine only')
  return warning(`answers this machine only, which ${steps} count as, too`, SET_AUTH)
}

/** Which steps of builds may have the loopback address of the machine that they run on; null if none. */
function stepsHere({ builder, build: { network } }: Config): string | null {
  if (network === 'host') return "build steps on the engine's host network (--build.network)"
  if ('network' in builder && builder.network === 'host') {
    return "builds on the engine's host network (--builder.network)"
  }
  // One without CNI plugins has steps on its own network, and does not say so.
  const near = builder.kind === 'buildkit' && [...builder.addresses.values()].some(isNear)
  return near && network !== 'none' ? 'build steps of a buildkitd without a network for them' : null
}

function isNear(address: BuildkitAddress): boolean {
  return 'path' in address || isLoopback(address.host)
}
