import { type BuildkitAddress, parseBuildkitAddress } from '../buildkit/address.ts'
import type { OptionReader } from './option-reader.ts'
import { size, wholeNumber } from './values.ts'

/** What builds: the engine itself, BuildKits of their own, or the containers of a builder image. */
export type BuilderConfig = { kind: 'engine' } | BuildkitConfig | ImageConfig

export interface BuildkitConfig {
  kind: 'buildkit'
  /** One or several, by their names. */
  addresses: Map<string, BuildkitAddress>
  /** Folder with ca.pem, cert.pem and key.pem; null: without TLS. */
  tls: string | null
  /** At a time, each. */
  builds: number
}

/** How images are packed, and what is kept of their steps. */
export interface PackingConfig {
  compression: 'zstd' | 'gzip' | 'uncompressed'
  /** Whether the registry keeps the cache, too. */
  exportCache: boolean
  /** Of an engine, or a buildkitd; null leaves it to them. */
  maxCacheBytes: number | null
}

export interface ImageConfig {
  kind: 'image' | 'swarm'
  image: string
  /** Container whose volumes have the ssh key and logins; null for none. A Swarm has secrets instead. */
  data: string | null
  /** Of the image's containers; null leaves it to the engine. */
  network: string | null
  /** `SOURCE:TARGET[:ro]` */
  mounts: string[]
  /** Which nodes of a Swarm build. */
  constraints: string[]
  privileged: boolean
}

/** The name that the builder image of the first Conveyor had. */
const FIRST_IMAGE = 'remind101/conveyor-builder'
/** In a container it is an absolute path; what it comes from is one, too, or the name of a volume. */
const MOUNT = /^(\/[^:,\s]*|[A-Za-z0-9][\w.-]*):\/[^:,\s]*(:r[ow])?$/

/** Reads the options of the builder. Who names an image wants it used, as `--builder.image` did alone at first. */
export function builderConfig(options: OptionReader): BuilderConfig {
  const image = options.get('builder.image', 'the name of an image', (text) =>
    /^\S+$/.test(text) ? text : undefined,
  )
  const asked = options.oneOf('builder', ['engine', 'buildkit', 'image', 'swarm'])
  const kind = asked ?? (image === null ? 'engine' : 'image')
  const buildkit = buildkitConfig(options, kind)
  const runsImage = kind === 'image' || kind === 'swarm'
  const data = options.name('builder.data', 'container, or none')
  const config: ImageConfig = {
    kind: runsImage ? kind : 'image',
    image: image ?? FIRST_IMAGE,
    data: data === 'none' ? null : data,
    network: options.name('builder.network', 'network, such as host or none'),
    mounts: options.list('builder.mount', 'SOURCE:TARGET or SOURCE:TARGET:ro', (one) => MOUNT.test(one)),
    constraints: options.list('builder.constraint', 'NAME==VALUE or NAME!=VALUE', (one) =>
      /^\S+ ?[!=]= ?\S+$/.test(one),
    ),
    privileged: options.flag('builder.privileged'),
  }
  if (config.constraints.length > 0 && kind !== 'swarm') {
    options.reject('builder.constraint', 'chooses nodes of a Swarm: expected --builder swarm too')
  }
  if (config.privileged && kind !== 'image') {
    options.reject('builder.privileged', 'expected --builder image too: a Swarm runs nothing privileged')
  }
  return runsImage ? config : kind === 'buildkit' ? buildkit : { kind: 'engine' }
}

function buildkitConfig(options: OptionReader, kind: string): BuildkitConfig {
  const accepted = 'tcp://HOST[:PORT] or unix:///PATH'
  const names = options.list('buildkit.addr', accepted, (one) => parseBuildkitAddress(one) !== undefined)
  if (names.length > 0 && kind !== 'buildkit') {
    options.reject('buildkit.addr', 'is where buildkitd listens: expected --builder buildkit too')
  }
  if (names.length === 0 && kind === 'buildkit') {
    options.reject('buildkit.addr', `is not given: expected ${accepted}, as --builder is buildkit`)
  }
  const addresses = names.map((name) => [name, parseBuildkitAddress(name) as BuildkitAddress] as const)
  return {
    kind: 'buildkit',
    addresses: new Map(addresses),
    tls: options.text('buildkit.tls'),
    builds: options.get('buildkit.builds', 'a whole number from 1 to 1000', wholeNumber(1, 1000)) ?? 1,
  }
}

/** Reads what is done with the layers of images. */
export function packingConfig(options: OptionReader): PackingConfig {
  return {
    compression: options.oneOf('compression', ['zstd', 'gzip', 'uncompressed']) ?? 'zstd',
    exportCache: options.oneOf('cache.export', ['registry', 'none']) === 'registry',
    maxCacheBytes: options.get('cache.max', 'a size, such as 500MB or 20GB', size),
  }
}
