import { repositoryKey } from '../core/repository-key.ts'
import type { BuildSettings, RefPatterns } from '../core/settings.ts'
import type { Settings } from './options.ts'
import type { Scoped } from './values.ts'

/** The build settings of one repository: its own take precedence over those of all repositories. */
export function settingsFor(build: Settings['build'], repository: string): BuildSettings {
  const forAll = (all: Scoped[]) => valuesOf(all, null)
  const forOne = (all: Scoped[]) => valuesOf(all, repositoryKey(repository))
  const merged = (all: Scoped[]) => Object.fromEntries([...forAll(all), ...forOne(all)].map(pair))
  const either = (all: Scoped[]) => eitherOf(all, repository)
  return {
    buildArgs: merged(build.args),
    network: build.network,
    target: either(build.targets).at(-1) ?? null,
    platforms: either(build.platforms),
    hosts: merged(build.hosts),
    ulimits: merged(build.ulimits),
    contexts: merged(build.contexts),
    attest: build.attest,
    reproducible: build.reproducible,
    gitArgs: either(build.gitArgs).at(-1) === 'true',
    git: hasGitFolder(build, repository),
    ssh: either(build.ssh).at(-1) ?? null,
  }
}

/** Which branches and git tags of a repository are built. */
export function refPatternsFor(
  { branches, tags }: Pick<Settings['build'], 'branches' | 'tags'>,
  repository: string,
): RefPatterns {
  return { branches: eitherOf(branches, repository), tags: eitherOf(tags, repository) }
}

/** Whether the contexts of a repository have a `.git` folder. */
function hasGitFolder({ git }: Pick<Settings['build'], 'git'>, repository: string): boolean {
  return eitherOf(git, repository).at(-1) === 'true'
}

/** From where submodules of a repository may be fetched, besides the server that it is on itself. */
export function submoduleHostsFor(
  { submodules }: Pick<Settings['git'], 'submodules'>,
  repository: string,
): string[] {
  return eitherOf(submodules, repository)
}

/** The group that a repository shares its cache mounts with; null if it does not share them. */
export function cacheGroupOf(
  { cacheGroups }: Pick<Settings['build'], 'cacheGroups'>,
  repository: string,
): string | null {
  const last = (whose: string | null) => valuesOf(cacheGroups, whose).at(-1)
  return last(repositoryKey(repository)) ?? last(null) ?? null
}

/** The repository's own values or, if it has none, those of all repositories. */
function eitherOf(all: Scoped[], repository: string): string[] {
  const own = valuesOf(all, repositoryKey(repository))
  return own.length > 0 ? own : valuesOf(all, null)
}

/** Whom a repository's builds notify when they end, and how. */
export interface NotifySettings {
  urls: string[]
  /** Signs what is sent; null for no signature. */
  secret: string | null
  format: 'conveyor' | 'dockerhub'
}

/** A repository's own settings take precedence over those of all repositories. */
export function notifySettingsFor(notify: Settings['notify'], repository: string): NotifySettings {
  const own = (all: Scoped[]) => valuesOf(all, repositoryKey(repository))
  const either = (all: Scoped[]) => (own(all).length > 0 ? own(all) : valuesOf(all, null))
  return {
    urls: [...new Set(either(notify.urls))],
    secret: either(notify.secrets).at(-1) ?? null,
    format: either(notify.formats).at(-1) === 'dockerhub' ? 'dockerhub' : 'conveyor',
  }
}

function valuesOf(all: Scoped[], repository: string | null): string[] {
  return all.filter((one) => one.repository === repository).map(({ value }) => value)
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=')
  return [text.slice(0, at), text.slice(at + 1)]
}
