import type { Attestation, BuildSettings } from '../pipeline/recipe.ts'
import type { OptionReader } from './option-reader.ts'
import { namedContext } from './values.ts'

/** A value, and whose: of the repository, in lower case, or of all. */
interface Scoped {
  repository: string | null
  value: string
}

/** What is set for builds, of all repositories and of single ones. */
export interface BuildOptions {
  args: Scoped[]
  targets: Scoped[]
  platforms: Scoped[]
  hosts: Scoped[]
  ulimits: Scoped[]
  contexts: Scoped[]
  attest: Attestation[]
  reproducible: boolean
  ssh: Scoped[]
  /** Groups of repositories that share their cache mounts. */
  cacheGroups: Scoped[]
}

/** `owner/name:value` */
const SCOPED = /^([\w.-]+\/[\w.-]+):(.*)$/s
const ATTESTATIONS = ['provenance', 'sbom'] as const

/** Reads what is set for builds. */
export function buildOptions(options: OptionReader): BuildOptions {
  type Name = Parameters<OptionReader['list']>[0]
  const scopedBy = (name: Name, accepted: string, isRight: (value: string) => boolean): Scoped[] =>
    options
      .list(name, `${accepted}, with OWNER/NAME: before it for one repository`, (one) =>
        isRight(parse(one).value),
      )
      .map(parse)
  const scoped = (name: Name, accepted: string, form: RegExp) =>
    scopedBy(name, accepted, (value) => form.test(value))
  const contexts = scopedBy(
    'build.context',
    'NAME=docker-image://IMAGE or NAME=https://URL (no folders: those of this machine are not where builds are)',
    (value) => namedContext(value) !== undefined,
  )
  const attest = options.list('attest', 'provenance, sbom, or both', (one) =>
    ATTESTATIONS.some((known) => known === one),
  )
  return {
    args: scoped('build.arg', 'NAME=VALUE', /^[A-Za-z_]\w*=/),
    targets: scoped('build.target', 'the name of a stage', /^[A-Za-z0-9][\w.-]*$/),
    platforms: scoped('platform', 'a platform, such as linux/arm64', /^[a-z0-9]+\/[a-z0-9_]+(\/v\d+)?$/),
    hosts: scoped('build.add-host', 'NAME=ADDRESS', /^[\w.-]+=[\da-f.:]+$/i),
    ulimits: scoped('build.ulimit', 'NAME=SOFT or NAME=SOFT:HARD', /^[a-z]+=\d+(:\d+)?$/),
    contexts: contexts.map((one) => ({ ...one, value: namedContext(one.value) ?? '' })),
    attest: attest as Attestation[],
    reproducible: options.flag('reproducible'),
    ssh: scoped('build.ssh', 'the path of a socket', /^\/./),
    cacheGroups: scoped('cache.share', 'the name of a group', /^[\w.-]+$/),
  }
}

/** What is set for one repository: its own goes before what is set for all. */
export function settingsFor(
  options: BuildOptions,
  network: string | null,
  repository: string,
): BuildSettings {
  const name = repository.toLowerCase()
  const forAll = (all: Scoped[]) => all.filter((one) => one.repository === null).map(({ value }) => value)
  const forIt = (all: Scoped[]) => all.filter((one) => one.repository === name).map(({ value }) => value)
  const both = (all: Scoped[]) => Object.fromEntries([...forAll(all), ...forIt(all)].map(pair))
  const either = (all: Scoped[]) => (forIt(all).length > 0 ? forIt(all) : forAll(all))
  return {
    buildArgs: both(options.args),
    network,
    target: either(options.targets).at(-1) ?? null,
    platforms: either(options.platforms),
    hosts: both(options.hosts),
    ulimits: both(options.ulimits),
    contexts: both(options.contexts),
    attest: options.attest,
    reproducible: options.reproducible,
    ssh: either(options.ssh).at(-1) ?? null,
  }
}

/** The group that a repository shares its cache mounts with; null: it shares them with none. */
export function cacheGroupOf(
  { cacheGroups }: Pick<BuildOptions, 'cacheGroups'>,
  repository: string,
): string | null {
  const name = repository.toLowerCase()
  const of = (whose: string | null) => cacheGroups.findLast((one) => one.repository === whose)
  return (of(name) ?? of(null))?.value ?? null
}

function parse(text: string): Scoped {
  const [, repository, value] = SCOPED.exec(text) ?? []
  return { repository: repository?.toLowerCase() ?? null, value: value ?? text }
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=')
  return [text.slice(0, at), text.slice(at + 1)]
}
