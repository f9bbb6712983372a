import type { Octokit } from '@octokit/rest'
import type { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { validRepository } from '../../core/validate.ts'
import { untilAborted } from '../../util/abort.ts'
import { keepNewest } from '../../util/collections/keep-newest.ts'
import type { Need } from './errors.ts'
import { type GitHubApi, type GitHubRequestOptions, githubApi, ownerAndName } from './requests.ts'
import { type GitHubTokens, personalTokens } from './tokens.ts'

export interface AppOptions extends GitHubRequestOptions {
  /** Of the App, or its client ID. */
  id: string
  /** PEM. */
  privateKey: string
  /** The only installation to use; null: the one that is on the repository. */
  installationId: number | null
}

type Level = 'read' | 'write' | 'admin'
type Permissions = Readonly<Record<string, Level>>

/** What Conveyor can use of an App's permissions, by GitHub's names. Tokens get those that are granted, and no others. */
export const APP_PERMISSIONS = {
  metadata: 'read',
  contents: 'read',
  statuses: 'write',
  checks: 'write',
  pull_requests: 'read',
} as const satisfies Permissions

/** Where an App is installed, and on what terms. */
interface Installation {
  id: number
  /** User or organization. */
  account: string
  permissions: Permissions
  isSuspended: boolean
}

/** An App, as GitHub sees it. */
export interface AppAccount {
  name: string
  permissions: Permissions
  /** Events that it gets webhooks for. */
  events: string[]
  /** At most 100. */
  installations: Installation[]
}

export interface AppTokens extends GitHubTokens {
  readonly kind: 'app'
  /** What the App is, and where it is installed. @throws ConveyorError `unauthorized`, `unavailable` */
  about(signal?: AbortSignal): Promise<AppAccount>
}

/** A token, or that there is none. Times are on the clock of `performance.now()`. */
interface Entry {
  token: string | null
  /** When another one is requested. */
  renewAt: number
  /** When GitHub no longer accepts it. */
  expiresAt: number
}

/** Repositories whose token is kept; that which was used longest ago is dropped first. */
const MOST_TOKENS = 2000
const RENEW_EARLY_MS = 5 * 60_000
/** How long it is believed that the App is not installed on a repository. */
const ABSENT_MS = 30_000
const READ: Need = { scope: 'repo', permission: 'Metadata: read' }

/**
 * Installation tokens of a GitHub App: each for one repository alone, and for what Conveyor does there. A token is kept
 * until 5 minutes before its end, and longer where GitHub cannot give another one.
 * @param now the clock in milliseconds; replaced in tests
 */
export function appTokens(options: AppOptions, now: () => number = () => performance.now()): AppTokens {
  const entries = new Map<string, Entry>()
  const pending = new Map<string, Promise<Entry>>()
  let opened: Promise<GitHubApi> | undefined
  const open = () => {
    opened ??= openApi(options)
    return opened
  }

  async function installationOn(
    repository: string,
    { octokit, call }: GitHubApi,
  ): Promise<Installation | null> {
    const { installationId } = options
    const at = ownerAndName(repository)
    const action = `find the installation of the GitHub App on ${repository}`
    const about = { action, need: READ, repository: null }
    if (installationId !== null) {
      return call(about, async (request) =>
        installationOf(
          (await octokit.apps.getInstallation({ installation_id: installationId, request })).data,
        ),
      )
    }
    const found = call(about, async (request) =>
      installationOf((await octokit.apps.getRepoInstallation({ ...at, request })).data),
    )
    return found.catch((error: ConveyorError) => {
      if (error.kind === 'not_found') return null
      throw error
    })
  }

  async function create(repository: string): Promise<Entry> {
    const api = await open()
    const installation = await installationOn(repository, api)
    if (installation === null) return absent(now())
    const { repo } = ownerAndName(repository)
    const action = `get a token of the GitHub App for ${repository}`
    const { octokit, call } = api
    const created = call({ action, need: READ, repository: null }, async (request) => {
      const { data, headers } = await octokit.apps.createInstallationAccessToken({
        installation_id: installation.id,
        repositories: [repo],
        permissions: granted(installation.permissions),
        request,
      })
      // By GitHub's own clock, as that of this machine may be wrong.
      const lifeMs = Date.parse(data.expires_at) - (Date.parse(headers.date ?? '') || Date.now())
      return { token: data.token, renewAt: now() + lifeMs - RENEW_EARLY_MS, expiresAt: now() + lifeMs }
    })
    return created.catch((error: ConveyorError) => {
      // 422: the only installation that may be used is not on this repository.
      if (error.kind === 'not_found' && options.installationId !== null) return absent(now())
      throw error
    })
  }

  /** One request at a time for each repository, whoever asks. */
  function renew(key: string, repository: string, old: Entry | undefined): Promise<Entry> {
    const running = pending.get(key)
    if (running) return running
    const renewed = create(repository)
      .catch((error: ConveyorError) => {
        // Better an old token than none, while GitHub does not answer.
        if (error.retryable && old?.token && old.expiresAt > now()) return old
        throw error
      })
      .then((entry) => {
        keep(key, entry)
        return entry
      })
      .finally(() => pending.delete(key))
    pending.set(key, renewed)
    return renewed
  }

  function keep(key: string, entry: Entry): void {
    keepNewest(entries, key, entry, MOST_TOKENS)
  }

  return {
    kind: 'app',

    async token(repository, signal) {
      const key = repositoryKey(validRepository(repository))
      const entry = entries.get(key)
      if (entry && now() < entry.renewAt) {
        keep(key, entry)
        return entry.token
      }
      return (await untilAborted(renew(key, repository, entry), signal)).token
    },

    refused(repository, token) {
      const key = repositoryKey(repository)
      if (entries.get(key)?.token === token) entries.delete(key)
    },

    async about(signal) {
      const { octokit, call } = await open()
      const need = { action: 'authenticate with GitHub as the App', need: READ, repository: null, signal }
      const [app, installations] = await Promise.all([
        call(need, async (request) => (await octokit.apps.getAuthenticated({ request })).data),
        call(
          need,
          async (request) => (await octokit.apps.listInstallations({ per_page: 100, request })).data,
        ),
      ])
      return {
        name: app?.name ?? '',
        permissions: levels(app?.permissions),
        events: app?.events ?? [],
        installations: installations.map(installationOf),
      }
    },
  }
}

/** Octokit that signs its requests as the App. Loaded on use: only Apps need it. */
export async function openApi(options: AppOptions): Promise<GitHubApi> {
  const { createAppAuth } = await import('@octokit/auth-app')
  const tokens: GitHubTokens = { ...personalTokens(undefined), kind: 'app' }
  const auth = { appId: options.id, privateKey: options.privateKey }
  return githubApi({ ...options, tokens }, { authStrategy: createAppAuth, auth })
}

const absent = (now: number): Entry => ({ token: null, renewAt: now + ABSENT_MS, expiresAt: now })

type InstallationData = Awaited<ReturnType<Octokit['apps']['getInstallation']>>['data']

function installationOf({ id, account, permissions, suspended_at }: InstallationData): Installation {
  const login = account && ('login' in account ? account.login : account.slug)
  return {
    id,
    account: login ?? '',
    permissions: levels(permissions),
    isSuspended: suspended_at !== null,
  }
}

function levels(permissions: object = {}): Permissions {
  return Object.fromEntries(
    Object.entries(permissions).filter(([, level]) => ['read', 'write', 'admin'].includes(level)),
  )
}

/** GitHub refuses a token that asks for more than the installation has. */
function granted(permissions: Permissions): Record<string, 'read' | 'write'> {
  const wanted = Object.entries(APP_PERMISSIONS).flatMap(([name, level]) => {
    const has = permissions[name]
    return has === undefined ? [] : [[name, has === 'read' ? 'read' : level] as const]
  })
  return Object.fromEntries(wanted)
}

/** The names of permissions that Conveyor can use and that are not granted, as GitHub's settings show them. */
export function missingPermissions(permissions: Permissions): string[] {
  return Object.entries(APP_PERMISSIONS)
    .filter(([name, level]) => {
      const has = permissions[name]
      return has === undefined || (level === 'write' && has === 'read')
    })
    .map(([name, level]) => `${TITLES[name as keyof typeof APP_PERMISSIONS]}: ${level}`)
}

const TITLES: Record<keyof typeof APP_PERMISSIONS, string> = {
  metadata: 'Metadata',
  contents: 'Contents',
  statuses: 'Commit statuses',
  checks: 'Checks',
  pull_requests: 'Pull requests',
}
