import { cacheLimit } from '../../buildkit/cache-limit.ts'
import { cachedOnSuccess, type Endpoint } from '../../buildkit/endpoint.ts'
import type { SolveRequest } from '../../buildkit/gen/control.ts'
import { GrpcCode, GrpcError } from '../../buildkit/grpc.ts'
import { hasBuilt } from '../../buildkit/history.ts'
import { solve } from '../../buildkit/solve.ts'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import { dockerfileText } from '../../dockerfile/read.ts'
import { NULL_LOG } from '../../logs/log-store.ts'
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
  /** Asked where BuildKit's words do not say what a registry means. */
  registry?: ManifestReader
  /** Images of the engine itself, where the BuildKit is one of an engine. */
  images?: Pick<Builder, 'localImage' | 'tidy'>
  /** zstd by default. */
  compression?: Compression
  /** Hosts (with port) of registries that have no TLS. */
  insecureHosts?: Iterable<string>
  /** Whether the registry keeps the cache, too; it does by default. */
  exportCache?: boolean
  /** How large the build cache may get; null leaves it to BuildKit. */
  maxCacheBytes?: number | null
  /** Waits between tries of a push, in milliseconds; as many retries as there are numbers. */
  pushRetryDelays?: number[]
  /** Told what went wrong in the background, one line at a time. */
  log?: (line: string) => void
}

/** A tag that no branch and no git tag can have: git allows no two dots in a row. */
export const CACHE_TAG = 'conveyor..cache'
/** What the cache may take to reach the registry once it is asked to end, in milliseconds. */
const GRACE_MS = 10_000

/**
 * Builds with BuildKit's own API: one request builds, exports and pushes. What the registry is to keep of
 * the cache is written afterwards, and read by workers that have nothing yet.
 */
export function buildkitBuilder(options: BuildkitBuilderOptions): Builder {
  const { endpoint, credentials, images, pushRetryDelays = [500, 2000], log = () => {} } = options
  const { exportCache = true, maxCacheBytes, registry } = options
  const limit = maxCacheBytes ? cacheLimit(endpoint, maxCacheBytes, log) : null
  const wanted: LayerFormat = {
    compression: options.compression ?? 'zstd',
    oci: options.compression !== 'gzip',
  }
  const insecure = new Set(options.insecureHosts)
  /** What registries take that do not take what is wanted, by host. */
  const packings = new Map<string, LayerFormat>()
  /** Whether what was built here of an image is all there; an import brings the last step only. */
  const warm = new Map<string, boolean>()
  /** Ends the fetching of layers that a build is to import, by the image's name. */
  const prefetches = new Map<string, AbortController>()
  const background = new Background()
  const rewrites = cachedOnSuccess(() => canRewriteTimes(endpoint))

  const targetOf = (reference: string): Omit<RequestOptions, 'session'> => {
    const { host } = parseReference(reference)
    return { packing: packings.get(host) ?? wanted, insecure: insecure.has(host) }
  }

  /** One request, in a session of its own. */
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
        : buildError(failure, { registry, dockerfile: () => dockerfileText(input.context, io.signal) })
    }
    const session = { endpoint, credentials, explain, onUncachedStep }
    const { answer, exportMs, ...built } = await withSession(input, io, session, (id, solveIo) =>
      solve(endpoint, request(id), solveIo),
    )
    return {
      ...built,
      imageId: answer['containerimage.config.digest'] ?? '',
      digest: input.push ? (answer['containerimage.digest'] ?? null) : null,
      pushMs: input.push ? exportMs : 0,
    }
  }

  /** Has the layers of an image fetched and unpacked. */
  async function fetchLayers(reference: string, signal: AbortSignal): Promise<void> {
    const input = pullLayersInput(reference)
    await run(input, { log: NULL_LOG, signal }, (session) =>
      layersRequest(input, { ...targetOf(reference), session }),
    )
  }

  /** The image whose push was refused, where the registry has it under its tag, which must not change. */
  async function alreadyThere(
    input: BuildInput,
    io: BuilderIo,
    target: Omit<RequestOptions, 'session'>,
    error: unknown,
  ): Promise<BuiltImage | null> {
    if (error instanceof ConveyorError) return null
    const said = parseRegistryMessage((error as Error).message)
    let built: BuiltImage | undefined
    const isSame = async (there: { digest: string; imageId: string }) => {
      const request = (session: string) => unpushed(imageRequest(input, { ...target, session }))
      built = await run(input, { ...io, log: NULL_LOG }, request)
      return built.digest === there.digest || built.imageId === there.imageId
    }
    const digest = await findPushedTag(said, input.reference, registry, isSame, target.packing === COMPATIBLE)
    return digest && built ? { ...built, digest } : null
  }

  /** Builds and pushes, the way that the registry takes it. */
  async function buildOnce(input: BuildInput, io: BuilderIo): Promise<BuiltImage> {
    const { reference } = input
    const target = targetOf(reference)
    // The layers of the old image that are still on their way then are those that change.
    const onUncachedStep = () => prefetches.get(splitReference(reference).name)?.abort()
    try {
      return await run(input, io, (session) => imageRequest(input, { ...target, session }), onUncachedStep)
    } catch (error) {
      const there = await alreadyThere(input, io, target, error)
      if (there) return there
      if (target.packing === COMPATIBLE || !isRefusedFormat(parseRegistryMessage((error as Error).message)))
        throw error
      const { host } = parseReference(reference)
      await linesTo(io.log)(
        `registry ${host} takes no ${target.packing.compression} layers or OCI manifests: pushing gzip and Docker's`,
      )
      const plain = { ...target, packing: COMPATIBLE }
      const request = (session: string) => imageRequest(input, { ...plain, session })
      const built = await run(input, io, request).catch(async (again) => {
        const kept = await alreadyThere(input, io, plain, again)
        if (!kept) throw again
        return kept
      })
      packings.set(host, COMPATIBLE)
      return built
    }
  }

  /** Images that the engine took from its own store are told without a digest, as `localImage` has it. */
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
      const { compression } = wanted
      return `builds go straight to the BuildKit of ${endpoint.name}, which pushes layers (${compression}) as it exports them`
    },
    cacheTag: async () => (exportCache ? CACHE_TAG : null),
    localImage: async (name) => images?.localImage(name) ?? null,
    tidy: async (imageName) => images?.tidy(imageName),

    async prefetch(imageName, digest, signal) {
      const enough = new AbortController()
      prefetches.set(imageName, enough)
      try {
        await fetchLayers(
          `${new ImageReference(imageName).withDigest(digest)}`,
          AbortSignal.any([signal, enough.signal]),
        )
      } catch (error) {
        if (!enough.signal.aborted) throw error
      }
    },

    prefetchBase: (_imageName, base, signal) => fetchLayers(base, signal),

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
            `the BuildKit of ${endpoint.name} cannot change the times of files in layers`,
            {
              hint: 'Use BuildKit 0.13 or newer (Docker 26), or leave out --reproducible',
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
        warm.set(imageName, !imported || cached < total)
        if (limit) background.add('the limit of the cache', limit)
        return ownImages(built)
      }),

    saveCache(imageName, makeInput) {
      if (!exportCache) return
      background.add(imageName, async (signal) => {
        try {
          const input = await makeInput()
          if (!input) return
          try {
            const ref = `${new ImageReference(imageName).withTag(CACHE_TAG)}`
            const target = targetOf(input.reference)
            await run(input, { log: NULL_LOG, signal }, (session) =>
              cacheRequest(input, ref, { ...target, session }),
            )
          } finally {
            await input.context.close()
          }
        } catch (error) {
          if (!signal.aborted)
            log(
              `cache of ${imageName} was not written (--cache.export none keeps it from being tried): ${(error as Error).message}`,
            )
        }
      })
    },
  }
}

/** Whether BuildKit (v0.13 and later) gives files in layers another time as it exports them. It says so in no other way. */
async function canRewriteTimes(endpoint: Endpoint): Promise<boolean> {
  const { signal } = new AbortController()
  try {
    await solve(endpoint, REWRITE_PROBE, { signal, onStatus: async () => {} })
    return false
  } catch (error) {
    if (error instanceof GrpcError && error.code !== GrpcCode.unavailable) return true
    throw await buildError({
      thrown: connectionLost(error, endpoint.name),
      ours: undefined,
      failed: undefined,
    })
  }
}
