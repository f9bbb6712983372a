import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { type Build, isEnded } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import type { Forge } from '../forge/forge.ts'
import type { ReadLogOptions } from '../logs/log-store.ts'
import { requestBuild } from '../pipeline/accept.ts'
import { WarmRepositories } from '../pipeline/cache/warm.ts'
import { resolveRequest, type UnresolvedRequest } from '../pipeline/resolve-request.ts'
import { StatusReporter } from '../pipeline/status-reporter.ts'
import { work } from '../pipeline/worker.ts'
import { Releaser } from '../util/lifecycle.ts'
import { type SetupIo, setUp } from './setup.ts'

/** Result of a local build. */
export interface LocalOutcome {
  build: Build
  /** `repo@sha256:...`; null unless it succeeded. */
  image: string | null
  /** File with its log. */
  logFile: string
}

export interface LocalBuildOptions {
  /** Folder for the records of the build; by default `local` in the data directory. */
  recordsDir?: string
  /** The caller has already checked that the branch contains the commit. */
  isVerified?: boolean
  /** Namespace of the cache mounts; by default derived from a secret in the records. */
  cacheNamespace?: string
}

/**
 * Runs the whole pipeline in this process, without a server: fetch, build, push, tag. Keeps mirrors and
 * records under `local` in the data directory. Sets no commit status, because its log has no URL.
 * @param order a `sha` together with a branch publishes the commit as that branch
 * @param onLog receives the build's log as it grows
 * @throws ConveyorError `cancelled` once `stop` is aborted, and what setUp throws
 */
export async function buildLocal(
  config: Config,
  order: UnresolvedRequest,
  cache: boolean,
  onLog: (bytes: Uint8Array) => Promise<void>,
  io: SetupIo,
  stop: AbortSignal,
  options: LocalBuildOptions = {},
): Promise<LocalOutcome> {
  await using releaser = new Releaser(io.log)
  const dataDir = join(config.dataDir, 'local')
  const { recordsDir = dataDir, cacheNamespace } = options
  const logDir = join(recordsDir, 'logs')
  const adapters = await setUp(
    {
      ...config,
      dataDir,
      db: { kind: 'sqlite', file: join(recordsDir, 'conveyor.db') },
      logger: { kind: 'file', dir: logDir },
    },
    io,
    releaser,
  )
  const parts = cacheNamespace ? { ...adapters.parts, cacheNamespace: () => cacheNamespace } : adapters.parts
  const { store } = parts

  const placed =
    options.isVerified && order.sha !== null
      ? { ...order, sha: order.sha }
      : await resolveRequest(order, { ...adapters.parts, forge: adapters.forge, log: io.log })
  const { build } = await requestBuild(
    { ...placed, defaultBranch: null, cache, source: { kind: 'cli' } },
    { store, queue: adapters.queue, log: io.log },
  )
  // Only this process has the records open, so that the one which began this build has been killed.
  if (build.state === 'building') {
    await adapters.queue.send({ buildId: build.id, repository: build.repository, turn: build.turn })
  }

  const end = new AbortController()
  const over = new AbortController()
  const statuses = new StatusReporter({ forge: noStatuses, store, buildUrl: () => '', log: io.log })
  const working = work(
    {
      ...adapters,
      parts,
      timeoutMs: config.timeoutMs,
      retryDelays: config.retryDelays,
      warm: new WarmRepositories(),
      statuses,
      onEnd: ({ id }) => {
        if (id === build.id) end.abort()
      },
      log: io.log,
    },
    1,
    { stop: end.signal, now: AbortSignal.any([end.signal, stop]) },
  )
  releaser.add('worker', working, () => {
    end.abort()
    return working
  })
  // Nothing else ends the reading of a log that could not be opened, or not be ended.
  working.finally(() => over.abort()).catch(() => {}) // awaited by the releaser
  let offset = 0
  const print = async (options: ReadLogOptions) => {
    for await (const bytes of adapters.logs.read(build.id, { ...options, offset })) {
      await onLog(bytes)
      offset += bytes.length
    }
  }
  await print({ signal: AbortSignal.any([stop, over.signal]) })
  if (!stop.aborted) await print({ signal: stop, follow: false })

  const ended = await store.get(build.id)
  if (!ended || !isEnded(ended.state)) {
    throw new ConveyorError('cancelled', 'the build was cancelled', {
      hint: 'Run the same command again to continue',
    })
  }
  const artifact = await store.artifactOf(build.id)
  return { build: ended, image: artifact?.image ?? null, logFile: join(logDir, `${build.id}.log`) }
}

const noStatuses: Pick<Forge, 'setStatus'> = { setStatus: async () => {} }
