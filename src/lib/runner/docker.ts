import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import type { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { demultiplex } from '../docker/container-logs.ts'
import { statusOf } from '../docker/errors.ts'
import { jsonLines } from '../docker/json-lines.ts'
import { request } from '../docker/request.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { runEnvironment } from './environment.ts'
import { createError, endError, gone, runError } from './errors.ts'
import { buildLabel, labelled, labelsOf } from './labels.ts'
import { pullImage } from './pull-image.ts'
import type { RunInput, RunIo, Runner } from './runner.ts'

export interface DockerRunnerOptions {
  docker: Dockerode
  /** The builder image; pulled if the engine does not have it. */
  image: string
  /** Logins for pulling it. */
  credentials: CredentialStore
  /** The container whose volumes hold the SSH key and Docker's logins; `data` by default, null for none. */
  dataContainer?: string | null
  /** Only for images that run their own engine; false by default. */
  privileged?: boolean
  /** Network of the container; null (default) leaves it to the engine. */
  network?: string | null
  /** Mounts, `SOURCE:TARGET[:ro]`, such as the engine's socket for an image that builds with it. */
  binds?: string[]
  /** Environment variables beyond those in environment.ts. No secrets: anyone with access to the engine can read them. */
  environment?: Record<string, string>
}

/** How long a container has between SIGTERM and SIGKILL. */
const STOP_SECONDS = 10
/** How long to wait, beyond that, for the engine to stop or remove a container. */
const CLEAN_UP_MS = 60_000

/**
 * Runs builder images as containers in Conveyor's Docker engine. They get the same environment as in the first
 * Conveyor, so images made for it work unchanged.
 */
export function dockerRunner(options: DockerRunnerOptions): Runner {
  const { docker, image, credentials } = options
  const dataContainer = options.dataContainer === undefined ? 'data' : options.dataContainer

  async function create(build: RunInput, io: RunIo): Promise<Dockerode.Container> {
    const { signal } = io
    const spec = containerOptions(build, options, dataContainer)
    const make = () =>
      docker.createContainer({ ...spec, abortSignal: signal }).catch(async (error) => {
        // The engine may make it all the same.
        if (signal.aborted) await remove(docker.getContainer(containerName(build))).catch(() => {})
        throw error
      })
    try {
      return await make()
    } catch (error) {
      signal.throwIfAborted()
      if (!/no such image/i.test(String(error))) throw createError(error, image, dataContainer)
    }
    await linesTo(io.log)(`pulling the builder image ${image}`)
    await pullImage(docker, credentials, image, signal)
    return make().catch((error) => {
      signal.throwIfAborted()
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

    async containers(buildId) {
      const query = { all: true, filters: { label: [buildLabel(buildId)] } }
      const found = await request<Dockerode.ContainerInfo[]>(docker, 'GET', '/containers/json', {
        query,
      }).catch((error) => {
        throw gone(error)
      })
      return found.map(({ Id, Labels }) => ({
        ...labelled(Labels),
        remove: () => remove(docker.getContainer(Id)),
      }))
    },
  }
}

/** The same for every attempt at a build, so that the next one finds leftovers of the last one. */
function containerName({ buildId }: RunInput): string {
  return `conveyor-build-${buildId}`
}

function containerOptions(
  build: RunInput,
  options: DockerRunnerOptions,
  dataContainer: string | null,
): Dockerode.ContainerCreateOptions {
  const { privileged = false, network, binds = [], environment = {} } = options
  const variables = { ...environment, ...runEnvironment(build) }
  return {
    name: containerName(build),
    Image: options.image,
    Env: Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    Labels: labelsOf(build),
    StopSignal: 'SIGTERM',
    HostConfig: {
      Privileged: privileged,
      Binds: binds,
      ...(dataContainer === null ? {} : { VolumesFrom: [dataContainer] }),
      ...(network ? { NetworkMode: network } : {}),
      // The engine keeps the output until it has been read, byte for byte (the default, json-file, replaces
      // invalid UTF-8), and removes it with the container.
      LogConfig: { Type: 'local', Config: { 'max-size': '1g', 'max-file': '1', compress: 'false' } },
    },
  }
}

/**
 * Starts a container and follows it until it exits. Aborting stops it; its last output still reaches the log, unless the
 * engine does not respond.
 */
async function runToEnd(
  docker: Dockerode,
  container: Dockerode.Container,
  image: string,
  io: RunIo,
): Promise<void> {
  const { signal } = io
  const givenUp = new AbortController()
  const abortSignal = givenUp.signal
  let stopping: Promise<void> | undefined
  const stop = () => {
    const limit = AbortSignal.timeout(STOP_SECONDS * 1000 + CLEAN_UP_MS)
    limit.addEventListener('abort', () => givenUp.abort(), { once: true })
    // It may have exited already, or the engine is gone; removing it reports anything else.
    stopping = container.stop({ t: STOP_SECONDS, abortSignal: limit }).catch(() => {})
  }
  signal.throwIfAborted()
  try {
    await container.start({ abortSignal: signal })
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    const copied = await copyLog(container, 0, io.log, abortSignal)
    const { StatusCode } = (await container.wait({ abortSignal })) as { StatusCode: number }
    // Engines before 23 may end a followed log before the last lines of an exited container.
    await copyLog(container, copied, io.log, abortSignal)
    signal.throwIfAborted()
    if (StatusCode === 0) return
    const { State } = await container.inspect({ abortSignal })
    const killed = await wasKilled(docker, container.id, State, abortSignal)
    throw endError(StatusCode, { ...State, killed }, image)
  } catch (error) {
    signal.throwIfAborted()
    throw runError(error, image)
  } finally {
    signal.removeEventListener('abort', stop)
    await stopping
  }
}

/**
 * Copies a container's output until it exits, without the first `from` bytes.
 * @returns how many bytes it has written
 */
async function copyLog(
  container: Dockerode.Container,
  from: number,
  log: RunIo['log'],
  abortSignal: AbortSignal,
): Promise<number> {
  const stream = await container.logs({ follow: true, stdout: true, stderr: true, abortSignal })
  let position = 0
  for await (const bytes of demultiplex(stream as IncomingMessage)) {
    const before = position
    position += bytes.length
    if (position > from) await log.write(bytes.subarray(Math.max(0, from - before)))
  }
  return position
}

/**
 * Whether the engine was told to kill a container: by a person, by another attempt at the build, or because the
 * engine is shutting down, while it still responds.
 */
async function wasKilled(
  docker: Dockerode,
  id: string,
  { StartedAt, FinishedAt }: { StartedAt: string; FinishedAt: string },
  abortSignal: AbortSignal,
): Promise<boolean> {
  const filters = JSON.stringify({ container: [id], event: ['kill'] })
  // Both times are by the engine's clock and in the past, so that the response ends. For a container that exits at
  // once, the engine may record the end before the start, and it rejects a reversed range.
  const since = Math.floor(Math.min(Date.parse(StartedAt), Date.parse(FinishedAt)) / 1000)
  const range = { since: String(since), until: unixTime(FinishedAt) }
  const events = await docker.getEvents({
    ...range,
    filters,
    abortSignal,
  } as unknown as Dockerode.GetEventsOptions)
  let killed = false
  for await (const _ of jsonLines(events as IncomingMessage)) killed = true
  return killed
}

/** Converts a timestamp, `2026-01-02T03:04:05.123456789Z`, to what the engine's API takes: seconds, with fraction. */
function unixTime(time: string): string {
  const fraction = /\.\d+/.exec(time)?.[0] ?? ''
  return `${Math.floor(Date.parse(time) / 1000)}${fraction}`
}

/** Removes a container, running or not, and its volumes, if it exists. */
async function remove(container: Dockerode.Container): Promise<void> {
  const abortSignal = AbortSignal.timeout(CLEAN_UP_MS)
  try {
    await container.remove({ force: true, v: true, abortSignal })
  } catch (error) {
    if (statusOf(error) === 404) return
    if (statusOf(error) !== 409) throw gone(error)
    // A removal is already in progress.
    await container.wait({ condition: 'removed', abortSignal }).catch((waiting) => {
      if (statusOf(waiting) !== 404) throw gone(waiting)
    })
  }
}
