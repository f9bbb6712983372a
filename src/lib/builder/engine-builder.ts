import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { cacheLimit } from '../buildkit/cache-limit.ts'
import { engineEndpoint } from '../buildkit/engine-endpoint.ts'
import { StatusResponse } from '../buildkit/gen/status.ts'
import { Progress } from '../buildkit/progress.ts'
import { openSession, type Session } from '../buildkit/session.ts'
import { ConveyorError } from '../errors.ts'
import { NO_LOG } from '../no-log.ts'
import type { Credentials } from '../registry/registry.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { buildError } from './engine-errors.ts'
import { hasImage, imageId, pullByDigest, tidyImages } from './engine-images.ts'
import { pushFromEngine } from './engine-push.ts'
import { fetchLayers } from './fetch-layers.ts'
import { jsonLines } from './json-lines.ts'
import { PLAIN } from './solve-request.ts'

export interface EngineBuilderOptions {
  docker: Dockerode
  credentials: Credentials
  /** Waits between tries of a push, in milliseconds; as many retries as there are numbers. */
  pushRetryDelays?: number[]
  /** How many images of a repository stay in the engine; 3 by default. */
  keepImages?: number
  /** How large the build cache may get; null leaves it to the engine. */
  maxCacheBytes?: number | null
  /** Told what went wrong in the background, one line at a time. */
  log?: (line: string) => void
}

/**
 * Builds with BuildKit inside the Docker Engine (20.10 and later), through its API: the context comes
 * straight from git's objects over a session of ours, and the engine keeps the layer cache.
 */
export function engineBuilder(options: EngineBuilderOptions): Builder {
  const { docker, credentials, pushRetryDelays = [500, 2000], keepImages = 3 } = options
  const { maxCacheBytes, log = () => {} } = options
  const limit = maxCacheBytes ? cacheLimit(engineEndpoint(docker), maxCacheBytes, log) : null
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
  /** Builds in the engine, which then has the image. */
  const buildThere = async (input: BuildInput, io: BuilderIo): Promise<Made> => {
    const imageName = input.reference.slice(0, input.reference.lastIndexOf(':'))
    // The layers of the old image that are still on their way then are those that change.
    const onWork = () => prefetches.get(imageName)?.enough.abort()
    const built = await build(docker, credentials, input, io, onWork).finally(() =>
      prefetches.delete(imageName),
    )
    const { total, cached } = built.steps
    if (input.cacheFrom.length > 0 && cached === total) onlyImported.add(imageName)
    else if (cached < total) onlyImported.delete(imageName)
    if (input.cacheFrom.length === 0 || cached === 0 || cached === total) return built
    // BuildKit leaves imported steps out of the cache record of the new image, so that the next worker
    // could not import them from it. Now that it has them itself, it records them all.
    const again = await build(docker, credentials, { ...input, cacheFrom: [] }, { ...io, log: NO_LOG })
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
      const reference = `${imageName}@${digest}`
      const enough = new AbortController()
      prefetches.set(imageName, { reference, enough })
      try {
        await pullByDigest(docker, credentials, reference, AbortSignal.any([signal, enough.signal]))
      } catch (error) {
        if (!enough.signal.aborted) throw error
      }
    },

    // Not by a pull: the engine would have an image of that name then, and prefer it to the registry's.
    prefetchBase: (_imageName, base, signal) =>
      fetchLayers(engineEndpoint(docker), credentials, base, { packing: PLAIN, insecure: false }, signal),

    build: (input, io) =>
      using(input.reference, async () => {
        refuseWhatNeedsAnIndex(input)
        const built = await buildThere(input, io)
        void limit?.()
        if (!input.push) return { ...built, digest: null, pushMs: 0 }
        io.signal.throwIfAborted()
        const from = performance.now()
        const digest = await pushFromEngine(docker, credentials, input.reference, pushRetryDelays, io)
        return { ...built, digest, pushMs: performance.now() - from }
      }),
  }
}

type Made = Omit<BuiltImage, 'digest' | 'pushMs'>

/** One build, in a session of its own. */
async function build(
  docker: Dockerode,
  credentials: Credentials,
  input: BuildInput,
  io: BuilderIo,
  onWork?: () => void,
): Promise<Made> {
  const { context, cacheKey: sharedKey, secrets, ssh } = input
  await using session = await openSession(engineEndpoint(docker), {
    context,
    sharedKey,
    credentials,
    secrets,
    ssh,
  })
  const progress = new Progress()
  try {
    const imageId = await runBuild(docker, session, progress, input, io, onWork)
    const { total, cached, clipped, images, remoteFiles } = progress.summary()
    for (const step of clipped) {
      await io.log.write(
        `warning: the engine clipped the output of ${step}; set BUILDKIT_STEP_LOG_MAX_SIZE (bytes) in the engine's environment to keep more of it\n`,
      )
    }
    return { imageId, steps: { total, cached }, transfer: session.transfer, from: { images, remoteFiles } }
  } catch (error) {
    io.signal.throwIfAborted()
    throw buildError(error, session.error, progress.summary().failed)
  }
}

/** Sends the build and follows its output. @returns the image's id. */
async function runBuild(
  docker: Dockerode,
  session: Session,
  progress: Progress,
  input: BuildInput,
  io: BuilderIo,
  onWork?: () => void,
): Promise<string> {
  const buildId = randomUUID()
  const response = await dial(docker, io.signal, '/build?', {
    version: '2',
    session: session.id,
    buildid: buildId,
    remote: 'client-session',
    dockerfile: input.context.dockerfile,
    t: input.reference,
    labels: input.labels,
    // Inline cache: lets a worker that never built this repository start from the pushed image.
    buildargs: { ...input.buildArgs, BUILDKIT_INLINE_CACHE: '1' },
    ...(input.cache ? {} : { nocache: 'true' }),
    ...(input.cache && input.cacheFrom.length > 0 ? { cachefrom: JSON.stringify(input.cacheFrom) } : {}),
    ...(input.network ? { networkmode: input.network } : {}),
    ...settingsQuery(input),
  })
  // Closing the connection ends most builds; the cancel call ends those that are between two steps too.
  const cancel = () => {
    response.destroy()
    dial(docker, AbortSignal.timeout(5000), '/build/cancel?', { id: buildId }).then(
      (answer) => answer.resume(),
      () => {}, // the build has ended meanwhile, or the engine is gone: nothing is left to cancel
    )
  }
  io.signal.addEventListener('abort', cancel, { once: true })
  try {
    let imageId: string | undefined
    for await (const message of jsonLines<BuildMessage>(response)) {
      if (message.error !== undefined) throw new Error(message.error)
      if (message.id === 'moby.buildkit.trace') {
        const text = progress.render(StatusResponse.decode(Buffer.from(message.aux as string, 'base64')))
        if (text.length > 0) await io.log.write(text)
        if (progress.works) onWork?.()
      } else if (message.id === 'moby.image.id') imageId = (message.aux as { ID: string }).ID
      else if (message.stream) await io.log.write(message.stream)
    }
    if (!imageId) throw new ConveyorError('unavailable', 'the Docker engine ended the build without a result')
    return imageId
  } finally {
    io.signal.removeEventListener('abort', cancel)
  }
}

function settingsQuery({ target, platforms, hosts, ulimits }: BuildInput): Record<string, unknown> {
  const extraHosts = Object.entries(hosts).map(([name, address]) => `${name}:${address}`)
  const limits = Object.entries(ulimits).map(([Name, value]) => {
    const [soft, hard = soft] = value.split(':')
    return { Name, Soft: Number(soft), Hard: Number(hard) }
  })
  return {
    ...(target ? { target } : {}),
    ...(platforms[0] ? { platform: platforms[0] } : {}),
    ...(extraHosts.length > 0 ? { extrahosts: extraHosts } : {}),
    ...(limits.length > 0 ? { ulimits: JSON.stringify(limits) } : {}),
  }
}

/** The classic image store has one manifest an image, and no place for what is said of it. */
function refuseWhatNeedsAnIndex({ platforms, attest }: BuildInput): void {
  const wanted = platforms.length > 1 ? 'several platforms in one image' : attest[0]
  if (!wanted) return
  throw new ConveyorError(
    'invalid',
    `the classic image store of the Docker engine has no place for ${wanted}`,
    {
      hint: 'Turn on the containerd image store of the engine, use --builder buildkit, or leave out --attest and all but one --platform',
    },
  )
}

interface BuildMessage {
  error?: string
  id?: string
  stream?: string
  /** base64 of a StatusResponse in a trace, {ID} with the image id. */
  aux?: unknown
}

function dial(
  docker: Dockerode,
  signal: AbortSignal,
  path: string,
  query: Record<string, unknown>,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  docker.modem.dial(
    {
      path,
      method: 'POST',
      options: { _query: query, _body: {} },
      isStream: true,
      statusCodes: { 200: true },
      abortSignal: signal,
    },
    (error, response) => (error ? reject(error) : resolve(response as IncomingMessage)),
  )
  return promise
}
