import { isImageReference, splitReference } from '../registry/image-name.ts'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { frontendsOf, type Heredocs, parse } from './instructions.ts'
import { type Stage, type StageInput, stagesOf } from './stages.ts'

/** The build settings that determine which images are used. */
export interface ReadSettings {
  buildArgs: Record<string, string>
  /** Target stage; null for the last. */
  target: string | null
  /** Named contexts: `docker-image://...` or a URL, by name. */
  contexts: Record<string, string>
}

/** An image that a build uses. */
interface ImageUse {
  kind: StageInput['kind'] | 'syntax'
  /** As written, after substitution; null if unknown. */
  name: string | null
  /** False if it is unknown whether the image is used at all. */
  certain: boolean
  platform: boolean
}

export interface Reading {
  /** Without duplicates, in the order in which they are found, beginning at the target. */
  uses: ImageUse[]
  /** Names that named contexts replace, if the frontend supports named contexts. */
  replaced: string[]
  /** Whether ADD may download something from a URL or a git repository. */
  remoteFiles: boolean
  /** Whether other uses are unknown: BuildKit rejects the Dockerfile, or its versions differ. */
  unreadable: boolean
}

/** More are not worth the requests to registries. */
export const MOST_IMAGES = 50
const STOCK_FRONTEND = /(^|\/)docker\/dockerfile(-upstream)?([:@]|$)/

/**
 * The images that a Dockerfile uses in all stages that its target needs.
 * @param dockerfile null if it could not be read
 */
export function readImages(dockerfile: string | null, settings: ReadSettings): Reading {
  const reading: Reading = { uses: [], replaced: [], remoteFiles: false, unreadable: false }
  if (dockerfile === null) return { ...reading, unreadable: true }
  for (const name of new Set([...frontendsOf(dockerfile), settings.buildArgs.BUILDKIT_SYNTAX ?? ''])) {
    if (name === '') continue
    reading.uses.push({ kind: 'syntax', name: imageOrNull(name), certain: false, platform: false })
    // Other frontends may have their own language.
    reading.unreadable ||= !STOCK_FRONTEND.test(name)
  }
  const dialects: Heredocs[] = dockerfile.includes('<<') ? ['spaced', 'tight', 'none'] : ['none']
  const reads = dialects
    .map((heredocs) => readAs(heredocs, dockerfile, settings))
    .filter((one) => one !== null)
  reading.unreadable ||= reads.length === 0 || reads.some(({ unreadable }) => unreadable)
  reading.remoteFiles = reads.some(({ remoteFiles }) => remoteFiles)
  reading.replaced = [...new Set(reads.flatMap(({ replaced }) => replaced))]
  reading.uses.push(...merged(reads.map(({ uses }) => uses)))
  return reading
}

/** Merges the uses of several interpretations of a file; a use is certain only if all of them have it. */
function merged(interpretations: ImageUse[][]): ImageUse[] {
  const maps = interpretations.map((uses) => new Map(uses.map((use) => [keyOf(use), use])))
  const all = new Map(maps.flatMap((uses) => [...uses]))
  return [...all].map(([key, use]) => ({
    ...use,
    certain: maps.every((uses) => uses.get(key)?.certain ?? false),
  }))
}

const keyOf = ({ kind, name, platform }: ImageUse) => JSON.stringify([kind, name, platform])
const imageOrNull = (name: string | null) => (name !== null && isImageReference(name) ? name : null)

/** The same images by their canonical names, `docker.io/library/alpine:latest`, with the digest if they are pinned. */
export function externalImages(
  dockerfile: string | null,
  settings: ReadSettings,
): { images: string[]; unknown: boolean; remoteFiles: boolean } {
  const { uses, unreadable, remoteFiles } = readImages(dockerfile, settings)
  const names = new Set(uses.flatMap(({ name }) => (name === null ? [] : [splitReference(name).canonical])))
  const unknown = unreadable || names.size > MOST_IMAGES || uses.some(({ name }) => name === null)
  return { images: [...names].slice(0, MOST_IMAGES), unknown, remoteFiles }
}

/** Reads a Dockerfile like a frontend with this support for heredocs; null if that rejects it. */
function readAs(heredocs: Heredocs, dockerfile: string, settings: ReadSettings): Reading | null {
  const to = new Collected()
  try {
    const stages = stagesOf(parse(dockerfile, heredocs), settings.buildArgs)
    new Walk(stages, settings.contexts, to).from(settings.target)
  } catch (error) {
    if (error instanceof InvalidDockerfile) return null
    if (!(error instanceof UnpredictableDockerfile)) throw error
    to.reading.unreadable = true
  }
  return to.reading
}

class Collected {
  readonly reading: Reading = { uses: [], replaced: [], remoteFiles: false, unreadable: false }
  readonly #known = new Map<string, ImageUse>()

  use(use: ImageUse): void {
    const own = { ...use, name: imageOrNull(use.name) }
    const known = this.#known.get(keyOf(own))
    if (known) known.certain ||= own.certain
    else {
      this.#known.set(keyOf(own), own)
      this.reading.uses.push(own)
    }
  }
}

/** Visits the stages that a target needs. */
class Walk {
  readonly #stages: Stage[]
  readonly #contexts: Map<string, string>
  readonly #to: Collected
  /** The last stage of each name. */
  readonly #named = new Map<string, number>()
  /** The stage that each stage is based on; undefined for an image. */
  readonly #below: (number | undefined)[] = []
  /** For each stage found, whether it is certainly needed. */
  readonly #met = new Map<number, boolean>()
  readonly #open: number[] = []

  constructor(stages: Stage[], contexts: Record<string, string>, to: Collected) {
    this.#stages = stages
    this.#contexts = new Map(Object.entries(contexts))
    this.#to = to
    for (const [index, { name, base }] of stages.entries()) {
      // As in BuildKit, names in FROM are case-sensitive, and must be defined on an earlier line.
      this.#below.push(base.name === null ? undefined : this.#named.get(base.name))
      if (name !== null) this.#named.set(name, index)
    }
  }

  /** @throws InvalidDockerfile, UnpredictableDockerfile */
  from(target: string | null): void {
    const first = target === null ? this.#stages.length - 1 : this.#named.get(target.toLowerCase())
    if (first === undefined || first < 0) throw new InvalidDockerfile('no such stage')
    this.#meet(first, true)
    for (let index = this.#open.pop(); index !== undefined; index = this.#open.pop()) this.#visit(index)
  }

  #meet(index: number, certain: boolean): void {
    const met = this.#met.get(index)
    if (met !== undefined && (met || !certain)) return
    this.#met.set(index, certain)
    this.#open.push(index)
  }

  #visit(index: number): void {
    const stage = this.#stages[index]
    if (!stage) return
    const certain = this.#met.get(index) ?? false
    const replaced = stage.name !== null && this.#context(stage.name, stage.base, certain)
    if (!replaced) this.#from(stage.base, index, certain)
    if (stage.remoteFiles) this.#to.reading.remoteFiles = true
    for (const source of stage.sources) this.#source(source, certain && !replaced)
  }

  #from(base: StageInput, index: number, certain: boolean): void {
    const below = this.#below[index]
    if (below !== undefined) this.#meet(below, certain)
    else if (base.name !== null) this.#image(base, certain)
    else {
      this.#to.use({ ...base, certain })
      // It may be any of the earlier stages.
      for (let one = 0; one < index; one += 1) this.#meet(one, false)
    }
  }

  #source(source: StageInput, certain: boolean): void {
    const name = source.name ?? ''
    const isIndex = source.kind === 'copy' && /^[+-]?\d+$/.test(name)
    const stage = isIndex ? Number(name) : this.#named.get(name.toLowerCase())
    if (stage === undefined) this.#image(source, certain)
    else if (stage >= 0 && stage < this.#stages.length) this.#meet(stage, certain)
    // BuildKit also counts images named by other instructions as stages.
    else throw new UnpredictableDockerfile('a stage number that does not exist')
  }

  #image(source: StageInput, certain: boolean): void {
    if (source.name === 'scratch') return
    if (this.#context(source.name ?? '', source, certain)) return
    this.#to.use({ ...source, certain })
  }

  /** Whether a named context replaces this name. */
  #context(name: string, { kind }: StageInput, certain: boolean): boolean {
    if (this.#contexts.size === 0 || /^(scratch|context)$/i.test(name)) return false
    const key = splitReference(name).familiar
    // Contexts for one platform, when the platform is unknown.
    if ([...this.#contexts.keys()].some((one) => one.startsWith(`${key}::`))) {
      throw new UnpredictableDockerfile('a context for one platform')
    }
    const context = this.#contexts.get(key)
    if (context === undefined) return false
    this.#to.reading.replaced.push(name)
    const image = /^docker-image:(?:\/\/)?(.+)/s.exec(context)?.[1]
    if (image && image !== 'scratch') this.#to.use({ kind, name: image, certain, platform: false })
    return true
  }
}
