import { openHooks } from '../app/setup-github.ts'
import type { Config } from '../config/config.ts'
import { ConveyorError } from '../core/errors.ts'
import {
  type EnsuredHook,
  type GitHubHooks,
  HOOK_EVENTS,
  type HookAnswer,
  type HookPlace,
  hookPlace,
  nameOf,
  type WantedHook,
} from '../forge/github/hooks.ts'

/** A line of the report. */
export interface SetupLine {
  state: 'created' | 'updated' | 'ok' | 'broken'
  text: string
}

/**
 * Makes the webhook of a repository or an organization lead to the server, and has GitHub try it. Does nothing where all
 * is well, however often it runs.
 * @param target `OWNER/NAME`, or `ORG`
 * @returns whether the server answered the ping as it should
 * @throws ConveyorError `invalid` if a setting is missing; otherwise of GitHub
 */
export async function setUpWebhook(
  config: Config,
  target: string,
  io: { report: (line: SetupLine) => void; log: (line: string) => void },
  hooks: GitHubHooks = openHooks(config, io.log),
): Promise<boolean> {
  const place = hookPlace(target)
  const wanted = wantedHook(config)
  const { report } = io
  const ensured = await hooks.ensure(place, wanted)
  report(lineOf(place, ensured))
  for (const url of ensured.others) {
    report({
      state: 'broken',
      text: `another webhook leads to this server, so every delivery arrives twice: delete ${url}`,
    })
  }
  let answer = await hooks.ping(place, ensured.id)
  if (answer?.status === 401 && ensured.outcome !== 'created') {
    const again = await hooks.ensure(place, wanted, { replaceSecret: true })
    report(lineOf(place, again))
    answer = await hooks.ping(place, again.id)
  }
  const { ok, text } = pingResult(answer, wanted.url)
  report({ state: ok ? 'ok' : 'broken', text })
  return ok && ensured.others.length === 0
}

/** @throws ConveyorError `invalid` naming the setting that is missing */
function wantedHook({ url, github }: Config): WantedHook {
  if (github.token === null) {
    throw new ConveyorError(
      'invalid',
      '--github.token (GITHUB_TOKEN) is not set, but changing webhooks requires a token',
      {
        hint: 'Set a token that may write webhooks, or leave out the target to set up a GitHub App, which needs none',
      },
    )
  }
  if (url === null) {
    throw new ConveyorError('invalid', '--url (BASE_URL) is not set: it is where GitHub sends webhooks to', {
      hint: 'Set the URL at which GitHub can reach the server',
    })
  }
  if (github.secret === null) {
    throw new ConveyorError(
      'invalid',
      '--github.secret (GITHUB_SECRET) is not set: it is what webhooks are signed with',
      {
        hint: 'Set it to the GITHUB_SECRET of the server, or generate one for both: openssl rand -hex 32',
      },
    )
  }
  return { url: `${url}/webhooks/github`, baseUrl: url, secret: github.secret, events: HOOK_EVENTS }
}

function lineOf(place: HookPlace, { outcome, url, changes }: EnsuredHook): SetupLine {
  const text = `webhook of ${nameOf(place)} to ${url}`
  if (outcome === 'updated') return { state: 'updated', text: `${text}: ${changes.join(', ')}` }
  return { state: outcome === 'created' ? 'created' : 'ok', text }
}

function pingResult(answer: HookAnswer | null, url: string): { ok: boolean; text: string } {
  if (answer === null) {
    return {
      ok: false,
      text: "ping: GitHub did not report the result in time; see the webhook's recent deliveries on GitHub",
    }
  }
  const { status, text, seconds } = answer
  if (status === 200) return { ok: true, text: `ping: the server answered in ${seconds.toFixed(2)} s` }
  if (status === 401) {
    return { ok: false, text: 'ping: the server refused the signature: it runs with another GITHUB_SECRET' }
  }
  const why = status === 0 ? `GitHub got no answer (${text})` : `GitHub got the answer ${status} (${text})`
  return {
    ok: false,
    text: `ping: ${why} from ${url}: check that it is this server, and that GitHub can reach it`,
  }
}
