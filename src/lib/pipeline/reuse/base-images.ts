import type { BuiltFrom } from '../../builder/builder.ts'
import type { BaseImage } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { MOST_IMAGES, type Reading, readImages } from '../../dockerfile/external-images.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { Registry } from '../../registry/registry.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import type { BuildParts } from '../parts.ts'

type Parts = Pick<BuildParts, 'builder' | 'registry'>

/** The images that a build refers to: those of the Dockerfile, and named contexts. */
interface ImageReferences {
  reading: Reading
  contexts: BuildSettings['contexts']
}

/** How many images are looked up in their registries at a time. */
export const LOOKUPS = 4
/** How long images are looked up before a build, in milliseconds: no file is sent to BuildKit in the meantime. */
export const LOOKUP_LIMIT_MS = 3000

/** @param dockerfile its text; null if it could not be read */
export function imageReferences(
  dockerfile: string | null,
  settings: Pick<BuildSettings, 'buildArgs' | 'target' | 'contexts'>,
): ImageReferences {
  return { reading: readImages(dockerfile, settings), contexts: settings.contexts }
}

/**
 * Digests, before the build, of the images that are named outside of FROM (`COPY --from=IMAGE`, `--mount=from=IMAGE`,
 * named contexts): not every BuildKit reports which digests these resolved to. If they are the same after the build,
 * the build used them. Without those that are not known within the time limit.
 */
export async function resolveOutsideFrom(
  { reading, contexts }: ImageReferences,
  parts: Parts,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const used = reading.uses
    .filter(({ kind }) => kind === 'copy' || kind === 'mount')
    .flatMap(({ name }) => (name === null ? [] : [imageNamed(name)]))
  const names = new Set(
    [...used, ...(contextImages(contexts) ?? [])].filter(({ digest }) => !digest).map(({ name }) => name),
  )
  // Such a build is never reused.
  if (reading.unreadable || reading.remoteFiles || names.size > MOST_IMAGES) return new Map()
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LOOKUP_LIMIT_MS)])
  const found = await mapConcurrently(
    [...names],
    LOOKUPS,
    async (name): Promise<[string, string | null]> => [
      name,
      await inRegistry(name, parts.registry, limited).catch(() => {
        signal.throwIfAborted()
        // The build needs the image, too, and will report the error.
        return null
      }),
    ],
  )
  return new Map(found.filter((pair): pair is [string, string] => pair[1] !== null))
}

/**
 * The base images of a build that has just finished, or null if one of them, or another external input, cannot be
 * pinned to a digest: such a build is never reused.
 * @param before the answer of resolveOutsideFrom before the build
 */
export async function baseImages(
  from: BuiltFrom,
  references: ImageReferences,
  before: Map<string, string>,
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseImage[] | null> {
  const { reading, contexts } = references
  // All named contexts count, as it is not certain which of them the Dockerfile uses.
  const named = contextImages(contexts)
  if (from.remoteFiles || reading.remoteFiles || reading.unreadable || !named) return null
  const images = imagesOf(from, named, reading)
  if (images.length > MOST_IMAGES) return null
  const bases = await mapConcurrently(
    images,
    LOOKUPS,
    async ({ name, digest }): Promise<BaseImage | null> => {
      if (digest)
        return { name, digest, resolved: isPinned(name, digest, references) ? 'pinned' : 'registry' }
      const local = await parts.builder.localImage(name)
      if (local) {
        // For a named context, BuildKit may take either the engine's image or the registry's.
        return named.some((one) => one.name === name) ? null : { name, digest: local, resolved: 'engine' }
      }
      const known = before.get(name)
      if (known === undefined) return null
      const now = await inRegistry(name, parts.registry, signal).catch(() => {
        signal.throwIfAborted()
        return null
      })
      return now === known ? { name, digest: now, resolved: 'registry' } : null
    },
  )
  return bases.every((base) => base !== null) ? bases : null
}

type Image = BuiltFrom['images'][number]

/**
 * The images that BuildKit reported, and those of the Dockerfile that it did not report, such as images without layers.
 * By full names without digests.
 */
function imagesOf(from: BuiltFrom, named: Image[], { uses }: Reading): Image[] {
  const reported = [
    ...from.images.map(({ name, digest }) => ({ name: splitReference(name).canonical, digest })),
    ...named,
  ]
  const names = new Set(reported.map(({ name }) => name))
  const unreported = uses
    .flatMap(({ name, certain }) => (name !== null && certain ? [imageNamed(name)] : []))
    .filter(({ name }) => !names.has(name))
  const images = new Map([...reported, ...unreported].map((one) => [`${one.name}@${one.digest}`, one]))
  return [...images.values()]
}

/** An image by its canonical name, `docker.io/library/alpine:latest`, and the digest that it is pinned to, if any. */
export function imageNamed(text: string): Image {
  const reference = splitReference(text)
  return { name: reference.withoutDigest().canonical, digest: reference.digest }
}

/** The images of named contexts; null if a context is anything else that can change unnoticed: a URL, a branch. */
function contextImages(contexts: BuildSettings['contexts']): Image[] | null {
  const moving = Object.values(contexts).filter((from) => !COMMIT.test(from))
  const images = moving.map((from) => {
    const name = /^docker-image:\/\/(.+)/.exec(from)?.[1]
    return name === undefined ? null : imageNamed(name)
  })
  return images.every((image) => image !== null) ? images : null
}

/** BuildKit takes a URL without `.git` for that of a file, and ignores what follows `#`. */
const COMMIT = /^https?:\/\/[^?#]+\.git#([0-9a-f]{40}|[0-9a-f]{64})(:.*)?$/

/**
 * Whether an image is named by this digest (`FROM name@sha256:...`) wherever the Dockerfile names it, so that no
 * registry can change it.
 */
function isPinned(name: string, digest: string, { reading, contexts }: ImageReferences): boolean {
  // Whether a named context replaces an image of the same name is up to the frontend.
  const replaced = reading.replaced.map((one) => imageNamed(one))
  const inFile = reading.uses.map((use) => (use.name === null ? null : imageNamed(use.name)))
  const uses = [...inFile, ...replaced, ...(contextImages(contexts) ?? [])]
  const same = uses.filter((use) => use === null || use.name === name)
  return same.length > 0 && same.every((use) => use?.digest === digest)
}

/** Why a build may use other base images now than before; null if all are unchanged. */
export async function changedBase(
  bases: BaseImage[],
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseChange | null> {
  const changes = await mapConcurrently(bases, LOOKUPS, (base) => changeOf(base, parts, signal))
  return changes.find((change) => change !== null) ?? null
}

/** Why a base image may differ now. */
interface BaseChange {
  /** A clause that is followed by "since the build of ...". */
  why: string
  /** Its registry did not answer, or refused to. */
  noAnswer: boolean
}

async function changeOf(
  { name, resolved, digest }: BaseImage,
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseChange | null> {
  if (resolved === 'pinned') return null
  try {
    // The engine prefers an image of its own to the registry's.
    const [local, remote] = await Promise.all([
      parts.builder.localImage(name),
      resolved === 'registry' ? inRegistry(name, parts.registry, signal) : null,
    ])
    const same = resolved === 'engine' ? local === digest : local === null && remote === digest
    return same ? null : { why: `base image ${name} has changed`, noAnswer: false }
  } catch (error) {
    signal.throwIfAborted()
    const { message } = error as Error
    return {
      why: `base image ${name} may have changed (it could not be looked up: ${message})`,
      noAnswer: true,
    }
  }
}

/** Digest of an image, null if its registry does not have it. @throws ConveyorError if the registry does not answer */
export async function inRegistry(
  name: string,
  registry: Registry,
  signal: AbortSignal,
): Promise<string | null> {
  const image = splitReference(name)
  return registry.head(image.name, image.identifier, signal)
}
