import { join } from 'node:path'
import type { Target } from '../client/client.ts'
import type { Config } from '../config/config.ts'
import { type Build, isEnded } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import type { Forge } from '../forge/forge.ts'
import { requestBuild } from '../pipeline/accept.ts'
import { WarmRepositories } from '../pipeline/cache/warm.ts'
import { placeOrder } from '../pipeline/place-request.ts'
import { StatusReporter } from '../pipeline/status-reporter.ts'
import { work } from '../pipeline/worker.ts'
import { Releaser } from '../util/lifecycle.ts'
import { type SetupIo, setUp } from './setup.ts'

/** How a local build ended. */
export interface LocalOutcome {
  build: Build
  /** `repo@sha256:...`; null unless it succeeded. */
  image: string | null
  /** The file that its log is in. */
  logFile: string
}

/**
 * The whole pipeline in this process, without a server: fetch, build, push, tag. It keeps its mirrors and
 * records under `local` in the data directory. Sets no commit status, as nobody could open its log.
 * @param target with a `sha` and a `branch`, the commit is published as that branch
 * @param onLog gets the build's log as it grows
 * @param places `recordsDir`: where the records go instead; `told`: whoever asked has seen to it that the branch
 * contains the commit; `cacheNamespace`: of the cache mounts, else it comes from the records
 * @throws ConveyorError `cancelled` once `stop` is aborted, and what setUp throws
 */
export async function buildLocal(
  config: Config,
  target: Target,
  cache: boolean,
  onLog: (bytes: Uint8Array) => Promise<void>,
  io: SetupIo,
  stop: AbortSignal,
  places: { recordsDir?: string; told?: boolean; cacheNamespace?: string } = {},
): Promise<LocalOutcome> {
  await using releaser = new Releaser(io.log)
  const dataDir = join(config.dataDir, 'local')
  const { recordsDir = dataDir, cacheNamespace } = places
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

  const order = {
    repository: target.repository,
    sha: 'sha' in target ? target.sha : null,
    ref: 'branch' in target ? { kind: 'branch' as const, name: target.branch } : null,
  }
  const placed =
    places.told && order.sha !== null
      ? { ...order, sha: order.sha }
      : await placeOrder(order, { ...adapters.parts, forge: adapters.forge, log: io.log })
  const { build } = await requestBuild(
    { ...placed, defaultBranch: null, cache, source: { kind: 'cli' } },
    { store, queue: adapters.queue, log: io.log },
  )

  const end = new AbortController()
  const statuses = new StatusReporter({ forge: silent, store, logUrl: () => '', log: io.log })
  const working = work(
    {
      ...adapters,
      parts,
      timeoutMs: config.timeoutMs,
      retryDelays: config.retryDelays,
      warm: new WarmRepositories(),
      statuses,
      log: io.log,
    },
    1,
    { stop: end.signal, now: AbortSignal.any([end.signal, stop]) },
  )
  releaser.add('worker', working, () => {
    end.abort()
    return working
  })
  for await (const bytes of adapters.logs.read(build.id, { signal: stop })) await onLog(bytes)

  const ended = await store.get(build.id)
  if (!ended || !isEnded(ended.state)) {
    throw new ConveyorError('cancelled', 'the build was stopped', { hint: 'Run the same command to go on' })
  }
  const artifact = await store.artifactOf(build.id)
  return { build: ended, image: artifact?.image ?? null, logFile: join(logDir, `${build.id}.log`) }
}

const silent: Pick<Forge, 'setStatus'> = { setStatus: async () => {} }
