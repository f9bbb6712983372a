import { ConveyorError } from '../../core/errors.ts'
import { APP_PERMISSIONS } from './app.ts'
import { HOOK_EVENTS } from './hooks.ts'
import { type GitHubApi, notGitHub } from './requests.ts'

/**
 * GitHub Apps that GitHub makes from a manifest, which the browser of whoever will own the App posts there:
 * https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
 */

/** A GitHub App that was made, with everything that is secret about it. */
export interface MadeApp {
  id: string
  name: string
  /** Its page, from which it is installed. */
  url: string
  clientId: string
  clientSecret: string
  webhookSecret: string | null
  /** PEM. */
  privateKey: string
}

/** Beyond what tokens need: what the events need that the App is told of. */
const PERMISSIONS = { ...APP_PERMISSIONS, issues: 'read', merge_queues: 'read' }
const EVENTS = [...HOOK_EVENTS, 'check_run', 'check_suite']
/** Of an App's name. */
const LONGEST_NAME = 34

export interface ManifestUrls {
  /** Of the server. */
  base: string
  webhook: string
  /** Where the browser comes back to with a code. */
  redirect: string
  /** Where people come back to who sign in. */
  login: string
}

/** The manifest of an App for one server, in JSON. */
export function appManifest({ base, webhook, redirect, login }: ManifestUrls): string {
  return JSON.stringify({
    name: `Conveyor ${new URL(base).hostname}`.slice(0, LONGEST_NAME).trim(),
    url: base,
    hook_attributes: { url: webhook, active: true },
    redirect_url: redirect,
    callback_urls: [login],
    description: 'Builds Docker images from pushes.',
    public: false,
    default_permissions: PERMISSIONS,
    default_events: EVENTS,
  })
}

/** Where the form with the manifest goes. @param webUrl of the website @param organization that will own the App; null: the user */
export function manifestTarget(webUrl: string, organization: string | null, state: string): string {
  const owner = organization === null ? '' : `organizations/${encodeURIComponent(organization)}/`
  return `${webUrl}/${owner}settings/apps/new?state=${encodeURIComponent(state)}`
}

/**
 * Exchanges the code for the App, which works once, and within an hour.
 * @throws ConveyorError `not_found` if it does not work (any more), `unavailable`
 */
export async function convertManifest({ octokit, once }: GitHubApi, code: string): Promise<MadeApp> {
  const action = 'get the GitHub App that was made'
  const about = { action, need: null, repository: null, write: true }
  const data = await once(about, async (request) => {
    const answer = await octokit.apps.createFromManifest({ code, request })
    return answer.data
  }).catch((error: unknown) => {
    if (!(error instanceof ConveyorError) || error.kind !== 'not_found') throw error
    throw new ConveyorError('not_found', `cannot ${action}: its code works once, and for an hour`, {
      hint: 'Begin again at /setup. If GitHub has made an App, delete it there: nobody has its private key',
    })
  })
  const { id, name, html_url: url, client_id, client_secret, webhook_secret, pem } = data
  const texts = [name, url, client_id, client_secret, pem]
  if (!Number.isSafeInteger(id) || texts.some((text) => typeof text !== 'string' || text === '')) {
    throw notGitHub(action)
  }
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) throw notGitHub(action)
  return {
    ...{ id: String(id), name, url, clientId: client_id, clientSecret: client_secret },
    ...{ webhookSecret: webhook_secret, privateKey: pem },
  }
}

/**
 * Has GitHub sign the App's webhooks with a secret of ours. @param api that authenticates as the App
 * @throws ConveyorError
 */
export async function setAppSecret({ octokit, call }: GitHubApi, secret: string): Promise<void> {
  const action = 'set the secret of the GitHub App’s webhook'
  const about = { action, need: null, repository: null, write: true }
  await call(about, async (request) => {
    await octokit.apps.updateWebhookConfigForApp({ secret, content_type: 'json', request })
  })
}

/** A code as GitHub gives them. @throws ConveyorError `invalid` */
export function validCode(code: unknown): string {
  if (typeof code === 'string' && /^[\w-]{1,200}$/.test(code)) return code
  throw new ConveyorError('invalid', 'the code of the GitHub App is missing or malformed', { field: 'code' })
}
