import { cacheLimit } from '../../buildkit/cache-limit.ts'
import { cachedOnSuccess, type Endpoint, responseLimit } from '../../buildkit/endpoint.ts'
import type { SolveRequest } from '../../buildkit/gen/control.ts'
import { GrpcCode, GrpcError } from '../../buildkit/grpc.ts'
import { hasBuilt } from '../../buildkit/history.ts'
import { solve } from '../../buildkit/solve.ts'
import { ownPlatform } from '../../buildkit/workers.ts'
import { DISCARD } from '../../core/build-log/sink.ts'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import { dockerfileText } from '../../dockerfile/read.ts'
import { ImageReference, parseReference, splitReference } from '../../registry/image-name.ts'
import { parseRegistryMessage } from '../../registry/messages.ts'
import { findPushedTag, type ManifestReader } from '../../registry/push-errors.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import { Background } from '../../util/background.ts'
import { buildError } from '../build-errors.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from '../builder.ts'
import { withPushRetries } from '../engine/push.ts'
import { pullLayersInput } from '../pull-layers.ts'
import { type ExplainError, withSession } from '../session.ts'
import { connectionLost, isPushFailure, isRefusedFormat } from './errors.ts'
import {
  COMPATIBLE,
  type Compression,
  cacheRequest,
  imageRequest,
  type LayerFormat,
  layersRequest,
  REWRITE_PROBE,
  type RequestOptions,
  unpushed,
} from './request.ts'

export interface BuildkitBuilderOptions {
  endpoint: Endpoint
  credentials: CredentialStore
  /** Queried where BuildKit's message leaves out why a registry failed. */
  registry?: ManifestReader
  /** The engine's local images, if BuildKit is part of an engine. */
  images?: Pick<Builder, 'localImage' | 'tidy'>
  /** zstd by default. */
  compression?: Compression
  /** Hosts (with port) of registries without TLS. */
  insecureHosts?: Iterable<string>
  /** Whether to export the cache to the registry; true by default. */
  exportCache?: boolean
  /** Size limit of the build cache; null leaves it to BuildKit. */
  maxCacheBytes?: number | null
  /** Delays before retries of a push, in milliseconds. */
  pushRetryDelays?: number[]
  /** Called with failures of background work, one line at a time. */
  log?: (line: string) => void
}

/** A tag that never collides with that of a branch or git tag: git allows no two dots in a row. */
export const CACHE_TAG = 'conveyor..cache'
/** How long a cache export may take to finish on shutdown, in milliseconds. */
const GRACE_MS = 10_000

/**
 * Builds with BuildKit's own API: one request builds, exports and pushes. The cache is exported to the registry
 * afterwards, for workers without one.
 */
export function buildkitBuilder(options: BuildkitBuilderOptions): Builder {
  const { endpoint, credentials, images, pushRetryDelays = [500, 2000], log = () => {} } = options
  const { exportCache = true, maxCacheBytes, registry } = options
  const limit = maxCacheBytes ? cacheLimit(endpoint, maxCacheBytes, log) : null
  const preferred: LayerFormat = {
    compression: options.compression ?? 'zstd',
    oci: options.compression !== 'gzip',
  }
  const insecure = new Set(options.insecureHosts)
  /** Formats for registries that do not accept the preferred one, by host. */
  const formats = new Map<string, LayerFormat>()
  /** Whether the cache of an image is complete here; an import brings the last step only. */
  const warm = new Map<string, boolean>()
  /** Cancels the prefetch of layers that a build will import, by image name. */
  const prefetches = new Map<string, AbortController>()
  const background = new Background()
  const platform = cachedOnSuccess(() => ownPlatform(endpoint).catch((error) => noAnswer(error, endpoint)))
  const rewrites = cachedOnSuccess(() => canRewriteTimes(endpoint))

  const optionsFor = (reference: string): Omit<RequestOptions, 'session'> => {
    const { host } = parseReference(reference)
    return { format: formats.get(host) ?? preferred, insecure: insecure.has(host) }
  }

  /** One request, in its own session. */
  async function run(
    input: BuildInput,
    io: BuilderIo,
    request: (session: string) => Omit<SolveRequest, 'Ref'>,
    onUncachedStep?: () => void,
  ): Promise<BuiltImage> {
    const explain: ExplainError = (error, ours, failed) => {
      if (ours instanceof ConveyorError) return ours
      const pushFailed = input.push && error instanceof Error && isPushFailure(error, failed)
      const failure = { thrown: connectionLost(error, endpoint.name, failed), ours, failed }
      return pushFailed
        ? error
        : buildError(failure, {
            ...{ registry, signal: io.signal, file: input.context.dockerfile },
            dockerfile: () => dockerfileText(input.context, io.signal),
          })
    }
    // Asked before anything is pushed.
    const own = input.platforms.length > 0 ? null : await platform()
    const session = { endpoint, credentials, explain, onUncachedStep }
    const { answer, exportMs, ...built } = await withSession(input, io, session, (id, solveIo) =>
      solve(endpoint, request(id), solveIo),
    )
    return {
      ...built,
      imageId: answer['containerimage.config.digest'] ?? '',
      digest: input.push ? (answer['containerimage.digest'] ?? null) : null,
      pushMs: input.push ? exportMs : 0,
      platform: own,
    }
  }

  /** Makes BuildKit pull and unpack the layers of an image. */
  async function pullLayers(reference: string, signal: AbortSignal): Promise<void> {
    const input = pullLayersInput(reference)
    await run(input, { log: DISCARD, signal }, (session) =>
      layersRequest(input, { ...optionsFor(reference), session }),
    )
  }

  /** After a rejected push: the image, if the registry has it under an immutable tag already; null otherwise. */
  async function alreadyThere(
    input: BuildInput,
    io: BuilderIo,
    target: Omit<RequestOptions, 'session'>,
    error: unknown,
  ): Promise<BuiltImage | null> {
    if (error instanceof ConveyorError) return null
    const message = parseRegistryMessage((error as Error).message)
    let built: BuiltImage | undefined
    const isSame = async (existing: { digest: string; imageId: string }) => {
      const request = (session: string) => unpushed(imageRequest(input, { ...target, session }))
      built = await run(input, { signal: io.signal, log: DISCARD }, request)
      return built.digest === existing.digest || built.imageId === existing.imageId
    }
    const digest = await findPushedTag(
      message,
      input.reference,
      { registry, signal: io.signal },
      isSame,
      target.format === COMPATIBLE,
    )
    return digest && built ? { ...built, digest } : null
  }

  /** Builds and pushes, in a format that the registry accepts. */
  async function buildOnce(input: BuildInput, io: BuilderIo): Promise<BuiltImage> {
    const { reference } = input
    const target = optionsFor(reference)
    // Layers of the old image that are still being pulled at that point have changed in this build.
    const onUncachedStep = () => prefetches.get(splitReference(reference).name)?.abort()
    try {
      return await run(input, io, (session) => imageRequest(input, { ...target, session }), onUncachedStep)
    } catch (error) {
      const pushed = await alreadyThere(input, io, target, error)
      if (pushed) return pushed
      if (target.format === COMPATIBLE || !isRefusedFormat(parseRegistryMessage((error as Error).message)))
        throw error
      const { host } = parseReference(reference)
      await linesTo(io.log)(
        `registry ${host} does not accept ${target.format.compression} layers or OCI manifests; pushing gzip layers and Docker manifests`,
      )
      const plain = { ...target, format: COMPATIBLE }
      const request = (session: string) => imageRequest(input, { ...plain, session })
      const built = await run(input, io, request).catch(async (again) => {
        const pushed = await alreadyThere(input, io, plain, again)
        if (!pushed) throw again
        return pushed
      })
      formats.set(host, COMPATIBLE)
      return built
    }
  }

  /** Removes the digests of images that came from the engine's own store; `localImage` returns those. */
  async function ownImages(built: BuiltImage): Promise<BuiltImage> {
    if (!images) return built
    const from = await Promise.all(
      built.from.images.map(async ({ name, digest }) => {
        const local = digest !== null && (await images.localImage(name)) === digest
        return { name, digest: local ? null : digest }
      }),
    )
    return { ...built, from: { ...built.from, images: from } }
  }

  return {
    async describe() {
      const { compression } = preferred
      return `building and pushing with the BuildKit of ${endpoint.name} (${compression} layers)`
    },
    platform,
    cacheTag: async () => (exportCache ? CACHE_TAG : null),
    localImage: async (name) => images?.localImage(name) ?? null,
    tidy: async (imageName) => images?.tidy(imageName),

    async prefetch(imageName, digest, signal) {
      const canceller = new AbortController()
      prefetches.set(imageName, canceller)
      try {
        await pullLayers(
          `${new ImageReference(imageName).withDigest(digest)}`,
          AbortSignal.any([signal, canceller.signal]),
        )
      } catch (error) {
        if (!canceller.signal.aborted) throw error
      }
    },

    prefetchBase: (_imageName, base, signal) => pullLayers(base, signal),

    close: () => background.close(GRACE_MS),

    async isWarm(imageName) {
      const known = warm.get(imageName)
      if (known !== undefined) return known
      const built = await hasBuilt(endpoint, imageName).catch(async (error) => {
        throw await buildError({
          thrown: connectionLost(error, endpoint.name),
          ours: undefined,
          failed: undefined,
        })
      })
      if (built) warm.set(imageName, true)
      return built
    },

    build: (input, io) =>
      background.before(async () => {
        if (input.reproducible && !(await rewrites())) {
          throw new ConveyorError(
            'invalid',
            `the BuildKit of ${endpoint.name} cannot rewrite file times in layers`,
            {
              hint: 'Use BuildKit 0.13 or newer (Docker 26), or omit --reproducible',
            },
          )
        }
        const imageName = splitReference(input.reference).name
        const once = () => buildOnce(input, io)
        const built = await (input.push
          ? withPushRetries(input.reference, { delays: pushRetryDelays, registry }, io, once)
          : once()
        ).finally(() => prefetches.delete(imageName))
        const { total, cached } = built.steps
        const imported = input.cache && input.cacheFrom.length > 0
        if (!input.isolated) warm.set(imageName, !imported || cached < total)
        if (limit) background.add('cache limit', limit)
        return ownImages(built)
      }),

    saveCache(imageName, makeInput) {
      if (!exportCache) return
      background.add(imageName, async (signal) => {
        try {
          const input = await makeInput(signal)
          if (!input) return
          try {
            const ref = `${new ImageReference(imageName).withTag(CACHE_TAG)}`
            const target = optionsFor(input.reference)
            await run(input, { log: DISCARD, signal }, (session) =>
              cacheRequest(input, ref, { ...target, session }),
            )
          } finally {
            await input.context.close()
          }
        } catch (error) {
          if (!signal.aborted)
            log(
              `exporting the cache of ${imageName} failed (disable with --cache.export none): ${(error as Error).message}`,
            )
        }
      })
    },
  }
}

/** Whether BuildKit can rewrite file times in layers (v0.13 and later), which only a trial request can tell. */
async function canRewriteTimes(endpoint: Endpoint): Promise<boolean> {
  const signal = responseLimit(endpoint)
  try {
    await solve(endpoint, REWRITE_PROBE, { signal, onStatus: async () => {} })
    return false
  } catch (error) {
    if (error instanceof GrpcError && error.code !== GrpcCode.unavailable) return true
    return noAnswer(error, endpoint)
  }
}

/** A question to BuildKit failed. @throws ConveyorError, always */
async function noAnswer(error: unknown, { name }: Endpoint): Promise<never> {
  throw await buildError({ thrown: connectionLost(error, name), ours: undefined, failed: undefined })
}
