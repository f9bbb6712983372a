import type { Build } from '../../core/build.ts'
import { linesTo } from '../../core/one-line.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { BuildIo, BuildParts } from '../parts.ts'
import { wantedTags } from '../tags/wanted.ts'
import { type PrefetchParts, prefetchBases } from './prefetch-bases.ts'

type Parts = PrefetchParts & Pick<BuildParts, 'registry' | 'names' | 'store'>

/** Something in the registry that layers can be imported from. */
interface CacheSource {
  reference: string
  digest: string
}

interface Found {
  /** Best first. */
  sources: CacheSource[]
  /** The newest image, whose layers will probably be needed. */
  image: CacheSource | undefined
}

/**
 * Imports the layers of earlier images into an engine that has none of this repository; where it has some, an import
 * costs more than it saves. The transfer of these layers, or of the base images if there is no earlier image, begins at
 * once, while the commit is being fetched, and is aborted when this is disposed of.
 */
export class CacheImport implements AsyncDisposable {
  /** References of what can be imported, best first. */
  readonly sources: Promise<string[]>
  readonly #end = new AbortController()
  readonly #prefetched: Promise<void>

  constructor(build: Build, imageName: string, parts: Parts, { log, signal }: BuildIo) {
    const io = { log, signal: AbortSignal.any([signal, this.#end.signal]) }
    const found = cacheSources(build, imageName, parts, io)
    this.sources = found.then((it) => it?.sources.map(({ reference }) => reference) ?? [])
    this.sources.catch(() => {}) // awaited by the build, if there is one
    // The build fetches what could not be prefetched, and reports what is wrong.
    this.#prefetched = found
      .then((it) => {
        if (it?.image) return parts.builder.prefetch(imageName, it.image.digest, io.signal)
        return it ? prefetchBases(build, imageName, parts, io.signal) : undefined
      })
      .catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort()
    await this.#prefetched
  }
}

/** What the registry has that probably shares layers with this build; null if the builder needs no import. */
async function cacheSources(
  build: Build,
  imageName: string,
  parts: Parts,
  { log, signal }: BuildIo,
): Promise<Found | null> {
  if (!build.cache || (await parts.builder.isWarm(imageName))) return null
  if (build.fork) return ownImage(build, imageName, parts, signal)
  const refs = build.refs.toReversed()
  const branch = build.defaultBranch && { kind: 'branch' as const, name: build.defaultBranch, sequence: 0 }
  const wanted = wantedTags({ ...build, refs: branch ? [...refs, branch] : refs }, 'always', parts.names)
  const tags = [...new Set([...wanted.map(({ tag }) => tag), 'latest'])]
  const kept = await parts.builder.cacheTag()
  const [cache, ...found] = await Promise.all(
    [kept, ...tags].map(async (tag) => {
      if (tag === null) return null
      try {
        const digest = await parts.registry.head(imageName, tag, signal)
        return digest && { digest, reference: `${imageName}:${tag}` }
      } catch (error) {
        signal.throwIfAborted()
        // The push will meet the same registry, and fail if it is really broken.
        await linesTo(log)(`no cache from ${imageName}:${tag}: ${(error as Error).message}`)
        return null
      }
    }),
  )
  const byDigest = new Map(found.flatMap((source) => (source ? [[source.digest, source]] : [])))
  const images = [...byDigest.values()]
  // The exported cache has all layers of the images, and more.
  return { sources: cache ? [cache] : images, image: images[0] }
}

/** A fork imports only from the last image of its own pull request. */
async function ownImage(
  build: Build,
  imageName: string,
  { store, registry }: Parts,
  signal: AbortSignal,
): Promise<Found | null> {
  const last = await store.lastArtifact(build.repository, build.refs)
  const digest = last && splitReference(last.image).digestIn(imageName)
  if (!digest || (await registry.head(imageName, digest, signal)) === null)
    return { sources: [], image: undefined }
  const image = { digest, reference: `${imageName}@${digest}` }
  return { sources: [image], image }
}
