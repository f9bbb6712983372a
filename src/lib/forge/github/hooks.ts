import { setTimeout as sleep } from 'node:timers/promises'
import { ConveyorError } from '../../core/errors.ts'
import type { Need } from './errors.ts'
import { type GitHubApi, notGitHub, ownerAndName } from './requests.ts'

/** Where a webhook is: a repository, or an organization and so all of its repositories. */
export type HookPlace = { repository: string } | { organization: string }

/** How a webhook has to be. */
export interface WantedHook {
  /** Where GitHub sends deliveries to. */
  url: string
  /** Any URL that begins with this one is of the same server, which takes deliveries at any path. */
  baseUrl: string
  secret: string
  events: readonly string[]
}

export interface EnsuredHook {
  id: number
  outcome: 'created' | 'updated' | 'unchanged'
  url: string
  /** What was changed, as a list for people: `events`, `secret`. */
  changes: string[]
  /** URLs of more webhooks that lead to the same server. */
  others: string[]
}

/** How the server answered a delivery. */
export interface HookAnswer {
  /** The HTTP status; 0 if there was no answer. */
  status: number
  /** As GitHub says it. */
  text: string
  seconds: number
}

/** What Conveyor does something with, of the events that webhooks of repositories and organizations can have. */
export const HOOK_EVENTS = ['push', 'pull_request', 'merge_group', 'issue_comment'] as const

const MOST_PAGES = 10
/** How often, and how long, the delivery of a ping is looked for, in milliseconds. */
const POLL_MS = 1000
const DELIVERY_MS = 20_000

/** Webhooks of repositories and organizations. */
export interface GitHubHooks {
  /**
   * Creates the webhook that leads to a server, or repairs it. Its secret cannot be read: it is only replaced if it is
   * missing, or with `replaceSecret`.
   * @throws ConveyorError
   */
  ensure(place: HookPlace, wanted: WantedHook, options?: { replaceSecret?: boolean }): Promise<EnsuredHook>
  /** Has GitHub send a ping. @returns how the server answered; null if GitHub does not tell in time @throws ConveyorError */
  ping(place: HookPlace, id: number): Promise<HookAnswer | null>
}

interface Hook {
  id: number
  active: boolean
  events: string[]
  config: { url?: string; content_type?: string; secret?: string; insecure_ssl?: string | number }
}

export function githubHooks(
  { octokit, call }: GitHubApi,
  { pollMs = POLL_MS, deliveryMs = DELIVERY_MS }: { pollMs?: number; deliveryMs?: number } = {},
): GitHubHooks {
  /** Sends a request to the API of the place. */
  const send = <T>(
    place: HookPlace,
    action: string,
    path: { method: 'GET' | 'POST' | 'PATCH'; of: string; body?: Record<string, unknown> },
  ): Promise<T> => {
    const [repository, base, at] =
      'repository' in place
        ? [place.repository, '/repos/{owner}/{repo}/hooks', ownerAndName(place.repository)]
        : [null, '/orgs/{org}/hooks', { org: place.organization }]
    const about = { action: `${action} of ${nameOf(place)}`, need: needOf(place), repository }
    return call({ ...about, write: path.method !== 'GET' }, async (request) => {
      const answer = await octokit.request(`${path.method} ${base}${path.of}`, {
        ...at,
        ...path.body,
        request,
      })
      return answer.data as T
    })
  }

  async function list(place: HookPlace): Promise<Hook[]> {
    const all: Hook[] = []
    for (let page = 1; page <= MOST_PAGES; page += 1) {
      const action = 'list the webhooks'
      const some = await send<Hook[]>(place, action, { method: 'GET', of: '', body: { per_page: 100, page } })
      if (!Array.isArray(some)) throw notGitHub(action)
      all.push(...some)
      if (some.length < 100) break
    }
    return all
  }

  async function pings(place: HookPlace, id: number) {
    interface Delivery {
      id: number
      event: string
      status: string
      status_code: number
      duration: number
    }
    const path = { method: 'GET' as const, of: '/{hook_id}/deliveries', body: { hook_id: id, per_page: 20 } }
    const all = await send<Delivery[]>(place, 'list the deliveries of the webhook', path)
    return all.filter(({ event }) => event === 'ping')
  }

  return {
    async ensure(place, wanted, { replaceSecret = false } = {}) {
      const config = { url: wanted.url, content_type: 'json', secret: wanted.secret, insecure_ssl: '0' }
      const own = (await list(place)).filter(({ config: { url = '' } }) => isSameServer(url, wanted.baseUrl))
      // One that works comes first.
      const [hook, ...others] = own.toSorted((a, b) => Number(b.active) - Number(a.active) || a.id - b.id)
      if (!hook) {
        const body = { name: 'web', active: true, events: [...wanted.events], config }
        const made = await send<Hook>(place, 'create the webhook', { method: 'POST', of: '', body })
        if (!Number.isSafeInteger(made?.id)) throw notGitHub('create the webhook')
        return { id: made.id, outcome: 'created', url: wanted.url, changes: [], others: [] }
      }
      const missing = hook.events.includes('*')
        ? []
        : wanted.events.filter((one) => !hook.events.includes(one))
      const isUrlFine = isReachedAs(hook.config.url ?? '', wanted.baseUrl)
      const url = isUrlFine ? (hook.config.url ?? wanted.url) : wanted.url
      const changes = [
        ...(isUrlFine ? [] : ['URL']),
        ...(hook.config.content_type === 'json' ? [] : ['content type']),
        ...(hook.config.secret && !replaceSecret ? [] : ['secret']),
        ...(missing.length > 0 ? [`events (${missing.join(', ')})`] : []),
        ...(hook.active ? [] : ['active']),
      ]
      if (changes.length > 0) {
        // A change of the configuration without the secret would remove it.
        const { insecure_ssl = '0' } = hook.config
        const body = {
          hook_id: hook.id,
          active: true,
          events: [...hook.events, ...missing],
          config: { ...config, url, insecure_ssl },
        }
        await send<Hook>(place, 'repair the webhook', { method: 'PATCH', of: '/{hook_id}', body })
      }
      return {
        id: hook.id,
        outcome: changes.length > 0 ? 'updated' : 'unchanged',
        ...{ url, changes, others: others.map(({ config }) => config.url ?? '') },
      }
    },

    async ping(place, id) {
      const before = new Set((await pings(place, id)).map((one) => one.id))
      await send(place, 'ping the webhook', { method: 'POST', of: '/{hook_id}/pings', body: { hook_id: id } })
      const end = performance.now() + deliveryMs
      for (;;) {
        const answered = (await pings(place, id)).find((one) => !before.has(one.id))
        if (answered) {
          const { status_code: status, status: text, duration: seconds } = answered
          return { status: Number(status), text: String(text), seconds: Number(seconds) }
        }
        if (performance.now() >= end) return null
        await sleep(pollMs)
      }
    },
  }
}

export function nameOf(place: HookPlace): string {
  return 'repository' in place ? place.repository : place.organization
}

/** `OWNER/NAME` or `ORG`. @throws ConveyorError `invalid` */
export function hookPlace(target: string): HookPlace {
  if (target.includes('/')) {
    const { owner, repo } = ownerAndName(target)
    return { repository: `${owner}/${repo}` }
  }
  if (/^[A-Za-z0-9][A-Za-z0-9-]{0,99}$/.test(target)) return { organization: target }
  throw new ConveyorError(
    'invalid',
    `${JSON.stringify(target.slice(0, 100))} is neither OWNER/NAME nor an organization`,
  )
}

function needOf(place: HookPlace): Need {
  return 'repository' in place
    ? { scope: 'admin:repo_hook', permission: 'Webhooks: write' }
    : { scope: 'admin:org_hook', permission: 'Webhooks: write (of the organization)' }
}

/** Whether a webhook leads to the server: by its host and path, whatever the scheme and port, which may have changed. */
function isSameServer(url: string, baseUrl: string): boolean {
  const [hook, base] = [URL.parse(url), new URL(baseUrl)]
  return hook !== null && hook.hostname === base.hostname && isBelow(hook.pathname, base.pathname)
}

/** Whether deliveries arrive: the server takes them at any path. */
function isReachedAs(url: string, baseUrl: string): boolean {
  return URL.parse(url)?.origin === new URL(baseUrl).origin
}

function isBelow(path: string, base: string): boolean {
  const folder = base.endsWith('/') ? base : `${base}/`
  return path === base || path.startsWith(folder)
}
