import { join } from 'node:path'
import { isLoopback } from '../net/loopback.ts'
import { ACCEPT_NEW } from '../source/git/ssh-hosts.ts'
import { type GitHubUrls, githubUrls, webOf } from './github-urls.ts'
import { aboutOption, type OptionReader } from './option-reader.ts'
import { ACCESS } from './options/access.ts'
import { BUILDER_IMAGE, BUILDKIT } from './options/builder.ts'
import { GITHUB } from './options/github.ts'
import { NOTIFY } from './options/outbound.ts'
import { SERVER } from './options/server.ts'
import { type DatabaseConfig, type LoggerConfig, STORAGE } from './options/storage.ts'
import { INHERITED_OPTIONS, type Settings } from './options.ts'

/** What builds: the engine itself, standalone buildkitd, or containers of a builder image. */
type BuilderConfig = { kind: 'engine' } | ({ kind: 'buildkit' } & Settings['buildkit']) | ImageBuilderConfig

export type ImageBuilderConfig = { kind: 'image' | 'swarm' } & Settings['builderImage']

/** A GitHub App, in place of a token. */
interface AppConfig {
  id: string
  /** PEM, PKCS #8. */
  privateKey: string
  /** Null: the one that is on a repository. */
  installationId: number | null
}

/** How people sign in with GitHub. */
interface LoginConfig {
  clientId: string
  clientSecret: string
}

/** What follows from the options about GitHub. */
interface GitHubSettings {
  /** Where people see repositories; null if it cannot be told from the API's URL. */
  webUrl: string | null
  app: AppConfig | null
  login: LoginConfig | null
  checks: Exclude<Settings['github']['checks'], null>
}

/** The settings that depend on several options. */
export interface DerivedSettings {
  github: Settings['github'] & GitHubSettings
  /** `environment` is where git takes its PATH, proxies, and SSH agent from. */
  git: Settings['git'] & { environment: NodeJS.ProcessEnv }
  builder: BuilderConfig
  build: Settings['build'] & { secretsDir: string }
  db: DatabaseConfig
  logger: LoggerConfig
  /** The environment of Conveyor's own builder image: inherited options that are given, or follow from others. */
  inherited: Record<string, string>
}

/**
 * Every rule over several options: conflicts become problems, and values that depend on others are derived.
 * @param inFile the flags of values that nobody gave: the file of the GitHub App has them
 */
export function applyRules(
  settings: Settings,
  reader: OptionReader,
  inFile: ReadonlySet<string>,
): DerivedSettings {
  const { dataDir, queue } = settings
  const urls = githubUrls(settings, reader)
  const db = settings.db ?? { kind: 'sqlite', file: join(dataDir, 'conveyor.db') }
  const logger = settings.logger ?? { kind: db.kind === 'postgres' ? 'postgres' : 'stdout' }
  const builder = builderOf(settings, reader)
  const app = appOf(settings, reader)
  if (queue.kind !== 'memory' && db.kind !== 'postgres') {
    reader.reject(
      STORAGE.queue,
      `is ${queue.kind}://, so --db must be postgres://..., where workers on other machines find the builds`,
    )
  }
  if (settings.access.header !== null && settings.access.proxies === null) {
    reader.reject(
      ACCESS.header,
      'requires --auth.proxies with the addresses of the proxy: otherwise anyone could send the header',
    )
  }
  if (settings.access.header === null && reader.isGiven(ACCESS.headerScope)) {
    reader.reject(ACCESS.headerScope, 'requires --auth.header')
  }
  if (logger.kind === 'postgres' && db.kind !== 'postgres') {
    reader.reject(
      STORAGE.logger,
      'is postgres://, which uses the database of --db, so --db must be postgres://...',
    )
  }
  if (!settings.notify.local && settings.notify.urls.some(({ value }) => isLoopback(hostOf(value)))) {
    reader.reject(NOTIFY.urls, 'names this machine, which requires --notify.local (NOTIFY_LOCAL)')
  }
  return {
    github: {
      ...settings.github,
      ...{ apiUrl: urls.apiUrl, webUrl: webOf(urls.apiUrl) },
      ...{ app, login: loginOf(settings, webOf(urls.apiUrl), reader, inFile) },
      checks: settings.github.checks ?? (app === null ? 'off' : 'on'),
    },
    git: { ...settings.git, url: urls.gitUrl, environment: reader.environment },
    builder,
    build: { ...settings.build, secretsDir: settings.build.secretsDir ?? join(dataDir, 'secrets') },
    db,
    logger,
    inherited: inheritedBy(settings, urls, reader),
  }
}

function appOf({ github }: Settings, reader: OptionReader): AppConfig | null {
  const { appId, privateKey, installationId } = github
  if (appId !== null && !reader.isGiven(GITHUB.privateKey)) {
    reader.reject(GITHUB.privateKey, 'is required with --github.app_id')
  }
  if (appId === null && reader.isGiven(GITHUB.privateKey)) {
    reader.reject(GITHUB.appId, 'is required with --github.private_key')
  }
  if (appId === null || privateKey === null) return null
  if (reader.isGiven(GITHUB.token)) {
    reader.warnings.push('--github.token (GITHUB_TOKEN) is not used, because there is a GitHub App')
  }
  return { id: appId, privateKey, installationId: installationId === null ? null : Number(installationId) }
}

function loginOf(
  { github: { clientId, clientSecret }, auth, url }: Settings,
  webUrl: string | null,
  reader: OptionReader,
  inFile: ReadonlySet<string>,
): LoginConfig | null {
  if (clientId !== null && !reader.isGiven(GITHUB.clientSecret)) {
    reader.reject(GITHUB.clientSecret, 'is required with --github.client_id')
  }
  if (clientId === null && reader.isGiven(GITHUB.clientSecret)) {
    reader.reject(GITHUB.clientId, 'is required with --github.client_secret')
  }
  if (clientId === null || clientSecret === null) return null
  const problems: string[] = []
  if (auth === 'none') {
    problems.push(aboutOption(GITHUB.clientId, 'cannot be combined with --auth none, which lets in everyone'))
  }
  if (webUrl === null) {
    const why =
      'requires --github.url to be https://HOST/api/v3 of a GitHub Enterprise server, if it is given'
    problems.push(aboutOption(GITHUB.clientId, why))
  }
  if (url?.startsWith('http:') && !isLoopback(hostOf(url))) {
    problems.push(aboutOption(SERVER.url, 'must begin with https:// where people sign in with GitHub'))
  }
  if (problems.length === 0) return { clientId, clientSecret }
  // Whoever made the App has not asked for this: the server does without.
  if ([GITHUB.clientId, GITHUB.clientSecret].every(({ flag }) => inFile.has(flag))) {
    reader.warnings.push(`people cannot sign in with GitHub: ${problems.join('; ')}`)
  } else reader.problems.push(...problems)
  return null
}

function hostOf(url: string): string {
  return new URL(url).hostname
}

/** An image that is given is meant to be used, even without --builder, as in the first Conveyor. */
function builderOf({ builder, buildkit, builderImage }: Settings, reader: OptionReader): BuilderConfig {
  const kind = builder.kind ?? (reader.isGiven(BUILDER_IMAGE.image) ? 'image' : 'engine')
  if (buildkit.addresses.size > 0 && kind !== 'buildkit') {
    reader.reject(BUILDKIT.addresses, 'requires --builder buildkit')
  }
  if (buildkit.addresses.size === 0 && kind === 'buildkit') {
    const { accepts } = BUILDKIT.addresses
    reader.reject(BUILDKIT.addresses, `is required with --builder buildkit: expected ${accepts}`)
  }
  if (builderImage.constraints.length > 0 && kind !== 'swarm') {
    reader.reject(BUILDER_IMAGE.constraints, 'requires --builder swarm')
  }
  if (builderImage.privileged && kind !== 'image') {
    reader.reject(BUILDER_IMAGE.privileged, 'requires --builder image: a Swarm runs no privileged containers')
  }
  if (kind === 'engine') return { kind }
  return kind === 'buildkit' ? { kind, ...buildkit } : { kind, ...builderImage }
}

function inheritedBy(
  { git }: Settings,
  { enterpriseSsh }: GitHubUrls,
  reader: OptionReader,
): Record<string, string> {
  return {
    ...reader.given(INHERITED_OPTIONS),
    ...(enterpriseSsh && { GIT_URL: enterpriseSsh }),
    // A file of this machine does not exist in the image.
    ...(git.knownHosts === ACCEPT_NEW && { GIT_KNOWN_HOSTS: ACCEPT_NEW }),
  }
}
