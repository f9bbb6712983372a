import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import type { BuilderIo } from '../builder/builder.ts'
import type { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { demultiplex } from '../docker/container-logs.ts'
import { jsonLines } from '../docker/json-lines.ts'
import { pullImage } from '../docker/pull-image.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { createError, endError, gone, runError, statusOf } from './errors.ts'
import type { BuildContainer, ContainerBuild } from './runner.ts'

export interface ImageBuilderOptions {
  docker: Dockerode
  /** The builder image; pulled when the engine does not have it. */
  image: string
  /** Logins for pulling it. */
  credentials: CredentialStore
  /** The container whose volumes hold the ssh key and docker's logins; `data` by default, null for none. */
  dataContainer?: string | null
  /** Only for images that start an engine of their own; false by default. */
  privileged?: boolean
  /** Network of the container; null (default) leaves it to the engine. */
  network?: string | null
  /** Mounts, `SOURCE:TARGET[:ro]`, such as the engine's socket for an image that builds with it. */
  binds?: string[]
  /** What the image is told beyond the contract. Never a secret: whoever may ask the engine can read it. */
  environment?: Record<string, string>
}

/** How long a container has between SIGTERM and SIGKILL. */
const STOP_SECONDS = 10
/** An engine that takes longer than this to stop or remove a container is not waited for. */
const CLEAN_UP_MS = 60_000

/**
 * Builds in containers of a builder image beside Conveyor, in the Docker engine. The contract is that of
 * the first Conveyor, so that images made for it work unchanged.
 */
export function imageBuilder(options: ImageBuilderOptions): BuildContainer {
  const { docker, image, credentials } = options
  const dataContainer = options.dataContainer === undefined ? 'data' : options.dataContainer

  async function create(build: ContainerBuild, io: BuilderIo): Promise<Dockerode.Container> {
    const wanted = containerOptions(build, options, dataContainer)
    try {
      return await docker.createContainer(wanted)
    } catch (error) {
      if (!/no such image/i.test(String(error))) throw createError(error, image, dataContainer)
    }
    await linesTo(io.log)(`pulling the builder image ${image}`)
    await pullImage(docker, credentials, image, io.signal)
    return docker.createContainer(wanted).catch((error) => {
      throw createError(error, image, dataContainer)
    })
  }

  return {
    async run(build, io) {
      io.signal.throwIfAborted()
      const leftover = docker.getContainer(containerName(build))
      await remove(leftover)
      const container = await create(build, io)
      try {
        await runToEnd(docker, container, image, io)
      } finally {
        await remove(container).catch((error: ConveyorError) =>
          linesTo(io.log)(`warning: the build's container could not be removed: ${error.message}`),
        )
      }
    },
  }
}

/** The same for each attempt at a build, so that the next one finds what the last one left. */
function containerName({ buildId }: ContainerBuild): string {
  return `conveyor-build-${buildId}`
}

function containerOptions(
  build: ContainerBuild,
  options: ImageBuilderOptions,
  dataContainer: string | null,
): Dockerode.ContainerCreateOptions {
  const { privileged = false, network, binds = [], environment = {} } = options
  const variables = { ...environment, ...contractEnvironment(build) }
  return {
    name: containerName(build),
    Image: options.image,
    Env: Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    Labels: {
      'conveyor.build': build.buildId,
      'conveyor.repository': build.repository,
      'conveyor.sha': build.sha,
    },
    StopSignal: 'SIGTERM',
    HostConfig: {
      Privileged: privileged,
      Binds: binds,
      ...(dataContainer === null ? {} : { VolumesFrom: [dataContainer] }),
      ...(network ? { NetworkMode: network } : {}),
      // The engine keeps the output until we have read it, however slowly, byte for byte (its usual
      // json-file replaces what is not UTF-8), and removes it with the container.
      LogConfig: { Type: 'local', Config: { 'max-size': '1g', 'max-file': '1', compress: 'false' } },
    },
  }
}

/** The environment that every builder image is given, on any kind of engine. */
export function contractEnvironment(build: ContainerBuild): Record<string, string> {
  return {
    REPOSITORY: build.repository.toLowerCase(),
    SHA: build.sha,
    BRANCH: build.branch ?? '',
    DRY: build.dry ? 'true' : '',
    CACHE: build.cache ? 'on' : 'off',
    BUILDKIT_CACHE_MOUNT_NS: build.cacheNamespace,
  }
}

/** Starts a container and follows it to its end. Aborting stops it; its last words still reach the log. */
async function runToEnd(
  docker: Dockerode,
  container: Dockerode.Container,
  image: string,
  io: BuilderIo,
): Promise<void> {
  const { signal } = io
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping = container
      .stop({ t: STOP_SECONDS, abortSignal: AbortSignal.timeout(STOP_SECONDS * 1000 + CLEAN_UP_MS) })
      .catch(() => {}) // it has ended by itself, or the engine is gone; removing it says if not
  }
  signal.throwIfAborted()
  try {
    await container.start({ abortSignal: signal })
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    const copied = await copyLog(container, 0, io)
    const { StatusCode } = (await container.wait()) as { StatusCode: number }
    // Engines before 23 may end a log that is followed before the last lines of a container that has ended.
    await copyLog(container, copied, io)
    signal.throwIfAborted()
    if (StatusCode === 0) return
    const { State } = await container.inspect()
    throw endError(StatusCode, { ...State, killed: await wasKilled(docker, container.id, State) }, image)
  } catch (error) {
    signal.throwIfAborted()
    throw runError(error, image)
  } finally {
    signal.removeEventListener('abort', stop)
    await stopping
  }
}

/**
 * Copies what a container writes, until it ends; without the first `from` bytes.
 * @returns how many bytes it has written by then
 */
async function copyLog(container: Dockerode.Container, from: number, { log }: BuilderIo): Promise<number> {
  const stream = await container.logs({ follow: true, stdout: true, stderr: true })
  let position = 0
  for await (const bytes of demultiplex(stream as IncomingMessage)) {
    const before = position
    position += bytes.length
    if (position > from) await log.write(bytes.subarray(Math.max(0, from - before)))
  }
  return position
}

/**
 * Whether the engine was told to end a container: by a person, by another attempt at the build, or by
 * itself as it shuts down, all the while it still answers.
 */
async function wasKilled(
  docker: Dockerode,
  id: string,
  { StartedAt, FinishedAt }: { StartedAt: string; FinishedAt: string },
): Promise<boolean> {
  const filters = JSON.stringify({ container: [id], event: ['kill'] })
  // Times by the engine's own clock, both in the past, so that the answer has an end. A container that ends at once
  // may have ended, as the engine writes it, before it was started; a range that runs backwards is refused.
  const since = Math.floor(Math.min(Date.parse(StartedAt), Date.parse(FinishedAt)) / 1000)
  const range = { since: String(since), until: unixTime(FinishedAt) }
  const events = await docker.getEvents({ ...range, filters } as unknown as Dockerode.GetEventsOptions)
  let killed = false
  for await (const _ of jsonLines(events as IncomingMessage)) killed = true
  return killed
}

/** A time of the engine, `2026-01-02T03:04:05.123456789Z`, as its API takes it: seconds, to the nanosecond. */
function unixTime(time: string): string {
  const fraction = /\.\d+/.exec(time)?.[0] ?? ''
  return `${Math.floor(Date.parse(time) / 1000)}${fraction}`
}

/** Removes a container and its volumes, running or not; what is not there is removed already. */
async function remove(container: Dockerode.Container): Promise<void> {
  const abortSignal = AbortSignal.timeout(CLEAN_UP_MS)
  try {
    await container.remove({ force: true, v: true, abortSignal })
  } catch (error) {
    if (statusOf(error) === 404) return
    if (statusOf(error) !== 409) throw gone(error)
    // Somebody is removing it already.
    await container.wait({ condition: 'removed', abortSignal }).catch((waiting) => {
      if (statusOf(waiting) !== 404) throw gone(waiting)
    })
  }
}
