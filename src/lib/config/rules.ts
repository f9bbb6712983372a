import { join } from 'node:path'
import { ACCEPT_NEW } from '../source/git/ssh-hosts.ts'
import { type GitHubUrls, githubUrls, webOf } from './github-urls.ts'
import type { OptionReader } from './option-reader.ts'
import { ACCESS } from './options/access.ts'
import { BUILDER_IMAGE, BUILDKIT } from './options/builder.ts'
import { type DatabaseConfig, type LoggerConfig, STORAGE } from './options/storage.ts'
import { INHERITED_OPTIONS, type Settings } from './options.ts'

/** What builds: the engine itself, standalone buildkitd, or containers of a builder image. */
type BuilderConfig = { kind: 'engine' } | ({ kind: 'buildkit' } & Settings['buildkit']) | ImageBuilderConfig

export type ImageBuilderConfig = { kind: 'image' | 'swarm' } & Settings['builderImage']

/** The settings that depend on several options. */
export interface DerivedSettings {
  /** `webUrl` is where people see repositories; null if it cannot be told from the API's URL. */
  github: Settings['github'] & { webUrl: string | null }
  /** `environment` is where git takes its PATH, proxies, and SSH agent from. */
  git: Settings['git'] & { environment: NodeJS.ProcessEnv }
  builder: BuilderConfig
  build: Settings['build'] & { secretsDir: string }
  db: DatabaseConfig
  logger: LoggerConfig
  /** The environment of Conveyor's own builder image: inherited options that are given, or follow from others. */
  inherited: Record<string, string>
}

/** Every rule over several options: conflicts become problems, and values that depend on others are derived. */
export function applyRules(settings: Settings, reader: OptionReader): DerivedSettings {
  const { dataDir, queue } = settings
  const urls = githubUrls(settings, reader)
  const db = settings.db ?? { kind: 'sqlite', file: join(dataDir, 'conveyor.db') }
  const logger = settings.logger ?? { kind: db.kind === 'postgres' ? 'postgres' : 'stdout' }
  const builder = builderOf(settings, reader)
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
  return {
    github: { ...settings.github, apiUrl: urls.apiUrl, webUrl: webOf(urls.apiUrl) },
    git: { ...settings.git, url: urls.gitUrl, environment: reader.environment },
    builder,
    build: { ...settings.build, secretsDir: settings.build.secretsDir ?? join(dataDir, 'secrets') },
    db,
    logger,
    inherited: inheritedBy(settings, urls, reader),
  }
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
