import type { OptionReader } from './option-reader.ts'

/** What builds: the engine itself, or the containers of a builder image. */
export type BuilderConfig = { kind: 'engine' } | ImageConfig

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
  const asked = options.oneOf('builder', ['engine', 'image', 'swarm'])
  const kind = asked ?? (image === null ? 'engine' : 'image')
  const data = options.name('builder.data', 'container, or none')
  const config: ImageConfig = {
    kind: kind === 'engine' ? 'image' : kind,
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
  return kind === 'engine' ? { kind } : config
}
