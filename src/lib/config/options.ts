import type { Option, Taker } from './option.ts'
import type { OptionReader } from './option-reader.ts'
import { ACCESS } from './options/access.ts'
import { BUILD } from './options/build.ts'
import { BUILDER, BUILDER_IMAGE, BUILDKIT } from './options/builder.ts'
import { GIT } from './options/git.ts'
import { GITHUB } from './options/github.ts'
import { IMAGES } from './options/images.ts'
import { LAYERS } from './options/layers.ts'
import { LOG } from './options/log.ts'
import { METRICS } from './options/operations.ts'
import { NOTIFY, REBUILD } from './options/outbound.ts'
import { PULLS } from './options/pulls.ts'
import { SERVER } from './options/server.ts'
import { STORAGE } from './options/storage.ts'
import { WORKERS } from './options/workers.ts'

/** A heading of --help and docs/options.md, and the options below it. */
export interface Topic {
  title: string
  options: readonly Option[]
}

/** The table: every option, by topic. */
export const TOPICS: readonly Topic[] = [
  topic('Server', { ...SERVER, ...ACCESS }),
  topic('GitHub', { ...GITHUB, ...PULLS }),
  topic('Git', GIT),
  topic('Images', IMAGES),
  topic('Builder', { ...BUILDER, ...BUILDKIT, ...BUILDER_IMAGE }),
  topic('Layers and cache', LAYERS),
  topic('Builds', BUILD),
  topic('Notifications and rebuilds', { ...NOTIFY, ...REBUILD }),
  topic('Storage', STORAGE),
  topic('Workers', WORKERS),
  topic('Operations', { ...LOG, ...METRICS }),
]

function topic(title: string, options: Record<string, Option>): Topic {
  return { title, options: Object.values(options) }
}

const ALL = TOPICS.flatMap(({ options }) => options)

/** Every option by the name of its flag. */
export const OPTIONS: Readonly<Record<string, Option>> = Object.fromEntries(ALL.map((one) => [one.flag, one]))

/** What a build is to be, wherever it runs: also in a container of Conveyor's own builder image. */
export const INHERITED_OPTIONS = ALL.filter(({ inherited }) => inherited)

/** Options that are secret, or may contain a password. */
export const SECRET_OPTIONS = ALL.filter(({ secret }) => secret !== undefined)

/** The options of a command. */
export function optionsOf(command: 'server' | 'doctor' | Taker): readonly Option[] {
  if (command === 'server' || command === 'doctor') return ALL
  return ALL.filter(({ commands }) => commands.includes(command))
}

/** The values of all options, each read alone. Config has them with the rules over several applied. */
export type Settings = ReturnType<typeof readSettings>

export function readSettings(reader: OptionReader) {
  return {
    ...reader.read(SERVER),
    access: reader.read(ACCESS),
    github: reader.read(GITHUB),
    pulls: reader.read(PULLS),
    git: reader.read(GIT),
    ...reader.read(IMAGES),
    builder: reader.read(BUILDER),
    buildkit: reader.read(BUILDKIT),
    builderImage: reader.read(BUILDER_IMAGE),
    packing: reader.read(LAYERS),
    build: reader.read(BUILD),
    notify: reader.read(NOTIFY),
    rebuild: reader.read(REBUILD),
    ...reader.read(STORAGE),
    ...reader.read(WORKERS),
    log: reader.read(LOG),
    metrics: reader.read(METRICS),
  }
}
