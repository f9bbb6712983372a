import type { Builder, BuiltFrom } from '../../builder/builder.ts'
import type { BaseImage } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { MOST_IMAGES, type Reading, readImages } from '../../dockerfile/external-images.ts'
import { fullName, splitDigest } from '../../dockerfile/image-names.ts'
import type { Registry } from '../../registry/registry.ts'

interface Parts {
  builder: Builder
  registry: Registry
}

/** Where a build names what it takes from outside. */
export interface Naming {
  reading: Reading
  contexts: BuildSettings['contexts']
}

/** How many requests for images go to their registries at a time. */
const AT_ONCE = 4

/** @param dockerfile its text; null when that could not be had */
export function namingOf(
  dockerfile: string | null,
  settings: Pick<BuildSettings, 'buildArgs' | 'target' | 'contexts'>,
): Naming {
  return { reading: readImages(dockerfile, settings), contexts: settings.contexts }
}

/**
 * Digests of the images that are named outside of FROM (`COPY --from=IMAGE`, `--mount=from=IMAGE`, named
 * contexts), as they are before the build: not every BuildKit tells to what it resolved these. Asked again
 * after the build, an equal answer means that the image did not move in between.
 */
export async function imagesNamedOutsideOfFrom(
  { reading, contexts }: Naming,
  parts: Parts,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const used = reading.uses
    .filter(({ kind }) => kind === 'copy' || kind === 'mount')
    .flatMap(({ name }) => (name === null ? [] : [splitDigest(name)]))
  const names = new Set(
    [...used, ...(contextImages(contexts) ?? [])].filter(({ digest }) => !digest).map(({ name }) => name),
  )
  // Such a build is not reused anyway.
  if (reading.unreadable || reading.remoteFiles || names.size > MOST_IMAGES) return new Map()
  const found = await fewAtATime(
    [...names],
    async (name): Promise<[string, string | null]> => [
      name,
      await inRegistry(name, parts.registry, signal).catch(() => {
        signal.throwIfAborted()
        // The build, which needs it too, will say why.
        return null
      }),
    ],
  )
  return new Map(found.filter((pair): pair is [string, string] => pair[1] !== null))
}

/**
 * The base images of a build that has just ended, or null when one of them, or something else that came
 * from outside, cannot be pinned down: such a build is not reused.
 * @param before what imagesNamedOutsideOfFrom found before the build
 */
export async function baseImages(
  from: BuiltFrom,
  naming: Naming,
  before: Map<string, string>,
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseImage[] | null> {
  const { reading, contexts } = naming
  // All contexts count: that a Dockerfile uses one is not told for certain.
  const named = contextImages(contexts)
  if (from.remoteFiles || reading.remoteFiles || reading.unreadable || !named) return null
  const images = imagesOf(from, named, reading)
  if (images.length > MOST_IMAGES) return null
  const bases = await fewAtATime(images, async ({ name, digest }): Promise<BaseImage | null> => {
    if (digest) return { name, digest, resolved: isPinned(name, digest, naming) ? 'pinned' : 'registry' }
    const local = await parts.builder.localImage(name)
    if (local) {
      // Of what a context stands for, BuildKit takes the engine's image or the registry's.
      return named.some((one) => one.name === name) ? null : { name, digest: local, resolved: 'engine' }
    }
    const known = before.get(name)
    if (known === undefined) return null
    const now = await inRegistry(name, parts.registry, signal).catch(() => {
      signal.throwIfAborted()
      return null
    })
    return now === known ? { name, digest: now, resolved: 'registry' } : null
  })
  return bases.every((base) => base !== null) ? bases : null
}

type Image = BuiltFrom['images'][number]

/**
 * What BuildKit told, and the images of the Dockerfile of which it told nothing, as of those without a layer.
 * By full names without digests.
 */
function imagesOf(from: BuiltFrom, named: Image[], { uses }: Reading): Image[] {
  const told = [...from.images.map(({ name, digest }) => ({ name: fullName(name), digest })), ...named]
  const names = new Set(told.map(({ name }) => name))
  const untold = uses
    .flatMap(({ name, certain }) => (name !== null && certain ? [splitDigest(name)] : []))
    .filter(({ name }) => !names.has(name))
  const images = new Map([...told, ...untold].map((one) => [`${one.name}@${one.digest}`, one]))
  return [...images.values()]
}

/** The images that named contexts stand for; null when one stands for what may change unseen: a URL, a branch. */
function contextImages(contexts: BuildSettings['contexts']): Image[] | null {
  const moving = Object.values(contexts).filter((from) => !COMMIT.test(from))
  const images = moving.map((from) => {
    const name = /^docker-image:\/\/(.+)/.exec(from)?.[1]
    return name === undefined ? null : splitDigest(name)
  })
  return images.every((image) => image !== null) ? images : null
}

/** Without .git in it, a URL is a file's to BuildKit, which pays no heed to what follows `#`. */
const COMMIT = /^https?:\/\/[^?#]+\.git#([0-9a-f]{40}|[0-9a-f]{64})(:.*)?$/

/**
 * Whether an image is named by this digest (`FROM name@sha256:...`) wherever the Dockerfile names it, so that no
 * registry can change what it is.
 */
function isPinned(name: string, digest: string, { reading, contexts }: Naming): boolean {
  // Whether a name that a context stands for means the context is up to the frontend.
  const replaced = reading.replaced.map((one) => splitDigest(one))
  const inFile = reading.uses.map((use) => (use.name === null ? null : splitDigest(use.name)))
  const uses = [...inFile, ...replaced, ...(contextImages(contexts) ?? [])]
  const same = uses.filter((use) => use === null || use.name === name)
  return same.length > 0 && same.every((use) => use?.digest === digest)
}

/** Why a build now may find other base images than they were; null when it would find them all unchanged. */
export async function changedBase(
  bases: BaseImage[],
  parts: Parts,
  signal: AbortSignal,
): Promise<Change | null> {
  const changes = await fewAtATime(bases, (base) => changeOf(base, parts, signal))
  return changes.find((change) => change !== null) ?? null
}

/** Why a base image may be another now. */
export interface Change {
  /** In words that come before "since the build of ...". */
  why: string
  /** Its registry does not answer, or refuses to say. */
  silent: boolean
}

async function changeOf(
  { name, resolved, digest }: BaseImage,
  parts: Parts,
  signal: AbortSignal,
): Promise<Change | null> {
  if (resolved === 'pinned') return null
  try {
    // The engine takes an image of its own first, whatever the registry has.
    const [local, remote] = await Promise.all([
      parts.builder.localImage(name),
      resolved === 'registry' ? inRegistry(name, parts.registry, signal) : null,
    ])
    const same = resolved === 'engine' ? local === digest : local === null && remote === digest
    return same ? null : { why: `base image ${name} has changed`, silent: false }
  } catch (error) {
    signal.throwIfAborted()
    const said = (error as Error).message
    return { why: `base image ${name} may have changed, as it cannot be looked up (${said}),`, silent: true }
  }
}

/** Null when the registry does not have it. @throws ConveyorError when it does not say */
export async function inRegistry(
  name: string,
  registry: Registry,
  signal: AbortSignal,
): Promise<string | null> {
  const colon = name.lastIndexOf(':')
  return registry.head(name.slice(0, colon), name.slice(colon + 1), signal)
}

export async function fewAtATime<T, R>(items: T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const queue = items.entries()
  const lanes = Array.from({ length: AT_ONCE }, async () => {
    for (const [index, item] of queue) results[index] = await work(item)
  })
  await Promise.all(lanes)
  return results
}
