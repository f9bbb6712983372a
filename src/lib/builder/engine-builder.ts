import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type Dockerode from 'dockerode'
import { StatusResponse } from '../buildkit/gen/status.ts'
import { Progress } from '../buildkit/progress.ts'
import { openSession, type Session } from '../buildkit/session.ts'
import { ConveyorError } from '../errors.ts'
import { NO_LOG } from '../no-log.ts'
import { splitReference } from '../registry/image-name.ts'
import type { Credentials } from '../registry/registry.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { buildError, engineDown, pushError } from './engine-errors.ts'
import { jsonLines } from './json-lines.ts'

export interface EngineBuilderOptions {
  docker: Dockerode
  credentials: Credentials
  /** Waits between tries of a push, in milliseconds; as many retries as there are numbers. */
  pushRetryDelays?: number[]
  /** How many images of a repository stay in the engine; 3 by default. */
  keepImages?: number
}

/**
 * Builds with BuildKit inside the Docker Engine (20.10 and later), through its API: the context comes
 * straight from git's objects over a session of ours, and the engine keeps the layer cache.
 */
export function engineBuilder(options: EngineBuilderOptions): Builder {
  const { docker, credentials, pushRetryDelays = [500, 2000], keepImages = 3 } = options
  /** References that are being built or pushed right now: `tidy` leaves them alone. */
  const inUse = new Set<string>()
  /**
   * Images that came whole from an imported cache. BuildKit then knows the last step only: what the steps
   * before it made is known again once it is imported for a build in which something has changed.
   */
  const onlyImported = new Set<string>()
  /** Images on their way for a build that is to import their layers, by name. */
  const prefetches = new Map<string, { reference: string; enough: AbortController }>()
  const imagesNamed = (imageName: string) =>
    docker.listImages({ filters: { reference: [imageName] } }).catch(engineDown)
  const using = async <T>(reference: string, work: () => Promise<T>): Promise<T> => {
    inUse.add(reference)
    return work().finally(() => inUse.delete(reference))
  }

  return {
    async isWarm(imageName) {
      const images = await imagesNamed(imageName)
      return images.some(({ RepoTags }) => named(RepoTags)) && !onlyImported.has(imageName)
    },

    async localImage(name) {
      try {
        return (await docker.getImage(name).inspect()).Id
      } catch (error) {
        if ((error as { statusCode?: number }).statusCode === 404) return null
        throw engineDown(error)
      }
    },

    async tidy(imageName) {
      const images = await imagesNamed(imageName)
      const references = images
        .sort((a, b) => b.Created - a.Created)
        .flatMap(({ RepoTags }) => (RepoTags ?? []).filter((tag) => tag.startsWith(`${imageName}:`)))
      const prefetched = images
        .filter(({ RepoTags }) => !named(RepoTags))
        .flatMap(({ RepoDigests }) => (RepoDigests ?? []).filter((name) => name.startsWith(`${imageName}@`)))
      for (const reference of [...references.slice(keepImages), ...prefetched]) {
        if (inUse.has(reference) || prefetches.get(imageName)?.reference === reference) continue
        await docker.getImage(reference).remove().catch(goneOrBusy)
      }
    },

    async prefetch(imageName, digest, signal) {
      const reference = `${imageName}@${digest}`
      const enough = new AbortController()
      prefetches.set(imageName, { reference, enough })
      try {
        await pull(docker, credentials, reference, AbortSignal.any([signal, enough.signal]))
      } catch (error) {
        if (!enough.signal.aborted) throw error
      }
    },

    build: (input, io) =>
      using(input.reference, async () => {
        const imageName = input.reference.slice(0, input.reference.lastIndexOf(':'))
        // The layers of the old image that are still on their way then are those that change.
        const onWork = () => prefetches.get(imageName)?.enough.abort()
        const built = await build(docker, credentials, input, io, onWork).finally(() =>
          prefetches.delete(imageName),
        )
        const { total, cached } = built.steps
        if (input.cacheFrom.length > 0 && cached === total) onlyImported.add(imageName)
        else if (cached < total) onlyImported.delete(imageName)
        if (input.cacheFrom.length > 0 && cached > 0 && cached < total) {
          // BuildKit leaves imported steps out of the cache record of the new image, so that the next
          // worker could not import them from it. Now that it has them itself, it records them all.
          const again = await build(docker, credentials, { ...input, cacheFrom: [] }, { ...io, log: NO_LOG })
          return { ...built, imageId: again.imageId }
        }
        return built
      }),

    push: (reference, io) =>
      using(reference, async () => {
        for (const delay of [...pushRetryDelays, null]) {
          try {
            return await pushOnce(docker, credentials, reference, io)
          } catch (thrown) {
            io.signal.throwIfAborted()
            const error = pushError(thrown, reference)
            if (!error.retryable || delay === null) throw error
            await io.log.write(`push failed, trying again: ${error.message}\n`)
            await sleep(delay, undefined, { signal: io.signal })
          }
        }
        throw new Error('unreachable: the last try returns or throws')
      }),
  }
}

/** One build, in a session of its own. */
async function build(
  docker: Dockerode,
  credentials: Credentials,
  input: BuildInput,
  io: BuilderIo,
  onWork?: () => void,
): Promise<BuiltImage> {
  const { context, cacheKey: sharedKey, secrets } = input
  await using session = await openSession(docker, { context, sharedKey, credentials, secrets })
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

/** Whether an image has a name at all. Engines before 25 tell an image without one as `<none>:<none>`. */
function named(tags: string[] | null | undefined): boolean {
  return tags?.some((tag) => tag !== '<none>:<none>') ?? false
}

/** An image that is gone, or that a container uses, is left as it is. */
function goneOrBusy(error: { statusCode?: number }): void {
  if (error.statusCode !== 404 && error.statusCode !== 409) throw engineDown(error)
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

/** One push of one tag. @returns the digest that the registry gave it. */
async function pushOnce(
  docker: Dockerode,
  credentials: Credentials,
  reference: string,
  io: BuilderIo,
): Promise<string> {
  const authconfig = await authOf(credentials, reference)
  const stream = await docker.getImage(reference).push({ authconfig, abortSignal: io.signal })
  let digest: string | undefined
  const last = new Map<string, string>()
  for await (const message of jsonLines<PushMessage>(stream as IncomingMessage)) {
    if (message.error !== undefined) throw new Error(message.error)
    digest = message.aux?.Digest ?? digest
    const { id, status } = message
    if (!id || !status) continue
    // Progress bars become one line a layer and end; of a countdown to another try, its begin is shown.
    const before = last.get(id)
    last.set(id, status)
    const counts = RETRYING.test(status) && !RETRYING.test(before ?? '')
    if (counts || (FINAL.test(status) && status !== before)) await io.log.write(`${id}: ${status}\n`)
  }
  if (!digest) throw new Error('the push ended without a digest')
  return digest
}

/** Fetches an image; it has a digest but no tag then. */
async function pull(
  docker: Dockerode,
  credentials: Credentials,
  reference: string,
  signal: AbortSignal,
): Promise<void> {
  const authconfig = await authOf(credentials, reference)
  const stream = await docker.pull(reference, { authconfig, abortSignal: signal }).catch(engineDown)
  for await (const { error } of jsonLines<{ error?: string }>(stream as IncomingMessage)) {
    if (error !== undefined) throw new ConveyorError('unavailable', `fetching ${reference}: ${error}`)
  }
}

/** What the engine logs in with, for the registry of an image. */
async function authOf(credentials: Credentials, reference: string): Promise<Dockerode.AuthConfig> {
  const { host } = splitReference(reference)
  const credential = await credentials.forHost(host)
  return credential ? { ...credential, serveraddress: host } : { username: '', password: '' }
}

interface BuildMessage {
  error?: string
  id?: string
  stream?: string
  /** base64 of a StatusResponse in a trace, {ID} with the image id. */
  aux?: unknown
}

interface PushMessage {
  error?: string
  id?: string
  status?: string
  aux?: { Digest?: string }
}

const FINAL = /^(Pushed$|Layer already exists$|Mounted from )/
const RETRYING = /^Retrying in /

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
