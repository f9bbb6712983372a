import type { Build } from '../../core/build.ts'
import { linesTo } from '../../core/one-line.ts'
import type { ImageNames, Registry } from '../../registry/registry.ts'
import type { BuildIo } from '../run-build.ts'
import { wantedTags } from '../tags/wanted.ts'
import { type EarlyParts, fetchBasesEarly } from './prefetch-bases.ts'

interface Parts extends EarlyParts {
  registry: Registry
  names: ImageNames
}

/** Something in the registry that layers can be imported from. */
interface CacheSource {
  reference: string
  digest: string
}

interface Found {
  /** Best first. */
  sources: CacheSource[]
  /** The newest image, whose layers are likely to be needed. */
  image: CacheSource | undefined
}

/**
 * The layers of earlier images, for an engine that has none of this repository; where it has, importing
 * costs more than it gives. Their transfer, or that of the base images where there is no earlier image, begins
 * at once, while the commit is still on its way, and is cut off when this is disposed of.
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
    // What could not be fetched early is fetched by the build, which then says what is wrong.
    this.#prefetched = found
      .then((it) => {
        if (it?.image) return parts.builder.prefetch(imageName, it.image.digest, io.signal)
        return it ? fetchBasesEarly(build, imageName, parts, io.signal) : undefined
      })
      .catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort()
    await this.#prefetched
  }
}

/** What exists, of where the layers of this build are to be expected; null when the builder needs none. */
async function cacheSources(
  build: Build,
  imageName: string,
  parts: Parts,
  { log, signal }: BuildIo,
): Promise<Found | null> {
  if (!build.cache || (await parts.builder.isWarm(imageName))) return null
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
        // The push will meet the same registry, and say so if it is truly broken.
        await linesTo(log)(`no cache from ${imageName}:${tag}: ${(error as Error).message}`)
        return null
      }
    }),
  )
  const byDigest = new Map(found.flatMap((source) => (source ? [[source.digest, source]] : [])))
  const images = [...byDigest.values()]
  // What the builder keeps beside the images has all that they have, and more.
  return { sources: cache ? [cache] : images, image: images[0] }
}
