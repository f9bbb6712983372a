import type Dockerode from 'dockerode'
import { cacheLimit } from '../../buildkit/cache-limit.ts'
import { engineEndpoint } from '../../buildkit/engine-endpoint.ts'
import { solve } from '../../buildkit/solve.ts'
import { hasImage, imageId, pullByDigest, tidyImages } from '../../docker/images.ts'
import { dockerfileText } from '../../dockerfile/read.ts'
import { NULL_LOG } from '../../logs/log-store.ts'
import { ImageReference, splitReference } from '../../registry/image-name.ts'
import type { ManifestReader } from '../../registry/push-errors.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import { buildError } from '../build-errors.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from '../builder.ts'
import { connectionLost } from '../buildkit/errors.ts'
import { layersRequest } from '../buildkit/request.ts'
import { pullLayersInput } from '../pull-layers.ts'
import { type ExplainError, withSession } from '../session.ts'
import { pushFromEngine } from './push.ts'
import { type BuildTransport, transportFor } from './transport.ts'
import { checkSupported } from './unsupported.ts'

export interface EngineBuilderOptions {
  docker: Dockerode
  credentials: CredentialStore
  /** Asked where the engine's words do not say what a registry means. */
  registry?: ManifestReader
  /** Waits between tries of a push, in milliseconds; as many retries as there are numbers. */
  pushRetryDelays?: number[]
  /** How many images of a repository stay in the engine; 3 by default. */
  keepImages?: number
  /** How large the build cache may get; null leaves it to the engine. */
  maxCacheBytes?: number | null
  /** The API a build is sent through; `transportFor` by default. */
  transport?: (input: BuildInput) => BuildTransport
  /** Told what went wrong in the background, one line at a time. */
  log?: (line: string) => void
}

/**
 * Builds with BuildKit inside the Docker Engine (20.10 and later), through its API: the context comes
 * straight from git's objects over a session of ours, and the engine keeps the layer cache.
 */
export function engineBuilder(options: EngineBuilderOptions): Builder {
  const { docker, credentials, pushRetryDelays = [500, 2000], keepImages = 3 } = options
  const { maxCacheBytes, transport = transportFor, log = () => {}, registry } = options
  const endpoint = engineEndpoint(docker)
  const limit = maxCacheBytes ? cacheLimit(endpoint, maxCacheBytes, log) : null
  /** References that are being built or pushed right now: `tidy` leaves them alone. */
  const inUse = new Set<string>()
  /**
   * Images that came whole from an imported cache. BuildKit then knows the last step only: what the steps
   * before it made is known again once it is imported for a build in which something has changed.
   */
  const onlyImported = new Set<string>()
  /** Images on their way for a build that is to import their layers, by name. */
  const prefetches = new Map<string, { reference: string; enough: AbortController }>()
  const using = async <T>(reference: string, work: () => Promise<T>): Promise<T> => {
    inUse.add(reference)
    return work().finally(() => inUse.delete(reference))
  }
  const explainFor =
    (input: BuildInput, { signal }: Pick<BuilderIo, 'signal'>): ExplainError =>
    (thrown, ours, failed) =>
      buildError(
        { thrown: connectionLost(thrown, endpoint.name, failed), ours, failed },
        { registry, dockerfile: () => dockerfileText(input.context, signal) },
      )
  /** One build, in a session of its own. */
  const build = async (input: BuildInput, io: BuilderIo, onUncachedStep?: () => void): Promise<Made> => {
    const options = { endpoint, credentials, explain: explainFor(input, io), onUncachedStep }
    const { answer, steps, transfer, from } = await withSession(input, io, options, (session, solveIo) =>
      transport(input)(docker, input, session, solveIo),
    )
    return { imageId: answer, steps, transfer, from }
  }
  /** Builds in the engine, which then has the image. */
  const buildThere = async (input: BuildInput, io: BuilderIo): Promise<Made> => {
    const imageName = splitReference(input.reference).name
    // The layers of the old image that are still on their way then are those that change.
    const onUncachedStep = () => prefetches.get(imageName)?.enough.abort()
    const built = await build(input, io, onUncachedStep).finally(() => prefetches.delete(imageName))
    const { total, cached } = built.steps
    if (input.cacheFrom.length > 0 && cached === total) onlyImported.add(imageName)
    else if (cached < total) onlyImported.delete(imageName)
    if (input.cacheFrom.length === 0 || cached === 0 || cached === total) return built
    // BuildKit leaves imported steps out of the cache record of the new image, so that the next worker
    // could not import them from it. Now that it has them itself, it records them all.
    const again = await build({ ...input, cacheFrom: [] }, { ...io, log: NULL_LOG })
    return { ...built, imageId: again.imageId }
  }

  return {
    async describe() {
      return "builds go through the Docker engine's /build, and it pushes them"
    },
    // The images have their cache in them.
    cacheTag: async () => null,
    saveCache() {},
    async close() {},

    isWarm: async (imageName) => !onlyImported.has(imageName) && hasImage(docker, imageName),
    localImage: (name) => imageId(docker, name),
    tidy: (imageName) =>
      tidyImages(
        docker,
        imageName,
        keepImages,
        (reference) => inUse.has(reference) || prefetches.get(imageName)?.reference === reference,
      ),

    async prefetch(imageName, digest, signal) {
      const reference = `${new ImageReference(imageName).withDigest(digest)}`
      const enough = new AbortController()
      prefetches.set(imageName, { reference, enough })
      try {
        await pullByDigest(docker, credentials, reference, AbortSignal.any([signal, enough.signal]))
      } catch (error) {
        if (!enough.signal.aborted) throw error
      }
    },

    // Not by a pull: the engine would have an image of that name then, and prefer it to the registry's.
    async prefetchBase(_imageName, base, signal) {
      const input = pullLayersInput(base)
      const options = { endpoint, credentials, explain: explainFor(input, { signal }) }
      await withSession(input, { log: NULL_LOG, signal }, options, (session, solveIo) =>
        solve(endpoint, layersRequest(input, { session, insecure: false }), solveIo),
      )
    },

    build: (input, io) =>
      using(input.reference, async () => {
        await checkSupported(docker, input)
        const built = await buildThere(input, io)
        void limit?.()
        if (!input.push) return { ...built, digest: null, pushMs: 0 }
        io.signal.throwIfAborted()
        const from = performance.now()
        const push = { delays: pushRetryDelays, registry }
        const digest = await pushFromEngine(docker, credentials, input.reference, push, io)
        return { ...built, digest, pushMs: performance.now() - from }
      }),
  }
}

type Made = Omit<BuiltImage, 'digest' | 'pushMs'>
