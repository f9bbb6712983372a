import type Dockerode from 'dockerode'
import { cacheLimit } from '../../buildkit/cache-limit.ts'
import { cachedOnSuccess } from '../../buildkit/endpoint.ts'
import { engineEndpoint } from '../../buildkit/engine-endpoint.ts'
import { solve } from '../../buildkit/solve.ts'
import { DISCARD } from '../../core/build-log/sink.ts'
import { engineDown, statusOf } from '../../docker/errors.ts'
import { hasImage, imageId, pullByDigest, tidyImages } from '../../docker/images.ts'
import { request } from '../../docker/request.ts'
import { dockerfileText } from '../../dockerfile/read.ts'
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
  /** Queried where the engine's message leaves out why a registry failed. */
  registry?: ManifestReader
  /** Delays before retries of a push, in milliseconds. */
  pushRetryDelays?: number[]
  /** How many images of a repository to keep in the engine; 3 by default. */
  keepImages?: number
  /** Size limit of the build cache; null leaves it to the engine. */
  maxCacheBytes?: number | null
  /** The API a build is sent through; `transportFor` by default. */
  transport?: (input: BuildInput) => BuildTransport
  /** Called with failures of background work, one line at a time. */
  log?: (line: string) => void
}

/**
 * Builds with BuildKit inside a Docker Engine with the classic image store (20.10 and later). The context is streamed
 * from git objects over our session, and the engine keeps the layer cache.
 */
export function engineBuilder(options: EngineBuilderOptions): Builder {
  const { docker, credentials, pushRetryDelays = [500, 2000], keepImages = 3 } = options
  const { maxCacheBytes, transport = transportFor, log = () => {}, registry } = options
  const endpoint = engineEndpoint(docker)
  const limit = maxCacheBytes ? cacheLimit(endpoint, maxCacheBytes, log) : null
  const platform = cachedOnSuccess(() => enginePlatform(docker))
  /** References that are being built or pushed, which `tidy` keeps. */
  const inUse = new Set<string>()
  /**
   * Images that came entirely from an imported cache. BuildKit then has the last step only; the results of earlier steps
   * are imported by the next build in which something has changed.
   */
  const onlyImported = new Set<string>()
  /** Images being pulled for a build that will import their layers, by name. */
  const prefetches = new Map<string, { reference: string; canceller: AbortController }>()
  const using = async <T>(reference: string, work: () => Promise<T>): Promise<T> => {
    inUse.add(reference)
    return work().finally(() => inUse.delete(reference))
  }
  const explainFor =
    (input: BuildInput, { signal }: Pick<BuilderIo, 'signal'>): ExplainError =>
    (thrown, ours, failed) =>
      buildError(
        { thrown: connectionLost(thrown, endpoint.name, failed), ours, failed },
        {
          ...{ registry, signal, file: input.context.dockerfile },
          dockerfile: () => dockerfileText(input.context, signal),
        },
      )
  /** One build, in its own session. */
  const build = async (
    input: BuildInput,
    io: BuilderIo,
    onUncachedStep?: () => void,
  ): Promise<EngineImage> => {
    const options = { endpoint, credentials, explain: explainFor(input, io), onUncachedStep }
    const { answer, steps, transfer, from } = await withSession(input, io, options, (session, solveIo) =>
      transport(input)(docker, input, session, solveIo),
    )
    return { imageId: answer, steps, transfer, from }
  }
  /** Builds an image into the engine's store. */
  const buildInEngine = async (input: BuildInput, io: BuilderIo): Promise<EngineImage> => {
    const imageName = splitReference(input.reference).name
    // Layers of the old image that are still being pulled at that point have changed in this build.
    const onUncachedStep = () => prefetches.get(imageName)?.canceller.abort()
    const built = await build(input, io, onUncachedStep).finally(() => prefetches.delete(imageName))
    const { total, cached } = built.steps
    if (input.cacheFrom.length > 0 && cached === total) onlyImported.add(imageName)
    else if (cached < total) onlyImported.delete(imageName)
    if (input.cacheFrom.length === 0 || cached === 0 || cached === total) return built
    // BuildKit leaves imported steps out of the new image's inline cache, so the next worker could not import them.
    // Now that it has these steps itself, a second build records all of them.
    const again = await build({ ...input, cacheFrom: [] }, { signal: io.signal, log: DISCARD })
    return { ...built, imageId: again.imageId }
  }

  return {
    async describe() {
      return "building through the Docker engine's /build API, pushing with the engine"
    },
    platform,
    // The cache is inline, in the images.
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
      const canceller = new AbortController()
      prefetches.set(imageName, { reference, canceller })
      try {
        await pullByDigest(docker, credentials, reference, AbortSignal.any([signal, canceller.signal]))
      } catch (error) {
        if (!canceller.signal.aborted) throw error
      }
    },

    // Not pulled by name, as the engine would then prefer its own image to the registry's.
    async prefetchBase(_imageName, base, signal) {
      const input = pullLayersInput(base)
      const options = { endpoint, credentials, explain: explainFor(input, { signal }) }
      await withSession(input, { log: DISCARD, signal }, options, (session, solveIo) =>
        solve(endpoint, layersRequest(input, { session, insecure: false }), solveIo),
      )
    },

    build: (input, io) =>
      using(input.reference, async () => {
        await checkSupported(docker, input)
        const own = input.platforms.length > 0 ? null : await platform()
        const built = await buildInEngine(input, io)
        void limit?.()
        if (!input.push) return { ...built, digest: null, pushMs: 0, platform: own }
        io.signal.throwIfAborted()
        const from = performance.now()
        const push = { delays: pushRetryDelays, registry }
        const digest = await pushFromEngine(docker, credentials, input.reference, push, io)
        return { ...built, digest, pushMs: performance.now() - from, platform: own }
      }),
  }
}

type EngineImage = Omit<BuiltImage, 'digest' | 'pushMs' | 'platform'>

/** The platform of an engine; null if a proxy in front of it blocks the request. */
async function enginePlatform(docker: Dockerode): Promise<string | null> {
  try {
    const { Os, Arch } = await request<Dockerode.DockerVersion>(docker, 'GET', '/version')
    return `${Os}/${Arch}`
  } catch (error) {
    if (statusOf(error) !== undefined) return null
    return engineDown(error)
  }
}
