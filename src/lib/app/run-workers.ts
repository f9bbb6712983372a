import type { Builder } from '../builder/builder.ts'
import type { Config } from '../config/config.ts'
import { type Build, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { about, logFirst } from '../core/log.ts'
import { removeLeftovers } from '../pipeline/attempts/leftovers.ts'
import { WarmRepositories, warmUp } from '../pipeline/cache/warm.ts'
import type { StatusReporter } from '../pipeline/status-reporter.ts'
import { work } from '../pipeline/worker.ts'
import { atMost, Releaser, returnSpareHeap, type Shutdown, within } from '../util/lifecycle.ts'
import { Periodic } from '../util/periodic.ts'
import { serveOperations } from './listen.ts'
import { reportPresence } from './presence.ts'
import { readiness, readinessChecks } from './readiness.ts'
import { type Adapters, type SetupIo, setUp, statusReporter } from './setup.ts'
import { withTelemetry } from './telemetry.ts'
import { VERSION } from './version.ts'

/** How long shutdown waits for commit statuses; the server sets the remaining ones. */
const LAST_STATUSES_MS = 5000
/** How often containers are looked for that no process watches. */
const LEFTOVERS_MS = 5 * 60_000

/**
 * `conveyor worker`: runs queued builds until it is shut down.
 * @throws ConveyorError if an adapter cannot be opened
 */
export async function runWorker(config: Config, io: SetupIo, shutdown: Shutdown): Promise<void> {
  if (config.queue.kind === 'memory') {
    throw new ConveyorError('invalid', '--queue (QUEUE) is memory://, which other processes cannot read', {
      hint: 'Set it to the queue of the server (postgres:// or sqs://...), or run only `conveyor server`, which then runs the builds itself',
    })
  }
  await using releaser = new Releaser(io.log)
  const baseUrl = config.url ?? `http://localhost:${config.port}`
  const role = { builds: true, http: false, baseUrl: () => baseUrl }
  const opened = await setUp(config, io, releaser)
  const { adapters, metrics } = await withTelemetry(config, opened, role, releaser)
  await checkLogs(adapters, io.log)
  const ready = readiness({ parts: readinessChecks(adapters, role), log: io.log })
  await serveOperations(config, { version: VERSION, ready, metrics }, io, releaser)
  const statuses = statusReporter(adapters, config, () => baseUrl, io.log)
  if (!config.url) io.log(`warning: --url (BASE_URL) is not set: commit statuses link to ${baseUrl}`)
  releaser.add('spare heap', returnSpareHeap(), (callOff) => callOff())
  const working = runWorkers(config, adapters, statuses, io, shutdown, releaser)
  if (config.logger.kind === 'stdout')
    io.log('--logger (LOGGER) is stdout://: build logs go to standard output, and servers cannot show them')
  io.log(
    `conveyor ${VERSION} worker takes jobs from ${config.queue.kind}://, up to ${config.workers} at a time`,
  )
  await working
  await atMost(LAST_STATUSES_MS, statuses.idle())
  await statuses.close()
}

/**
 * Checks that the log store is safe to write to, before anything is built. If it is unavailable now, that is only a
 * warning: it may be back when the first log is written.
 * @throws ConveyorError `invalid` if it is not safe
 */
export async function checkLogs(
  { logs }: Pick<Adapters, 'logs'>,
  log: (line: string) => void,
): Promise<void> {
  try {
    await logs.checkWrites?.({ trace: true })
  } catch (thrown) {
    const error = toConveyorError(thrown, 'cannot check the log store')
    if (error.kind === 'invalid') throw error
    log(`warning: ${error.advice}`)
  }
}

/**
 * Takes jobs and runs builds, and warms up the machine in parallel. On shutdown it finishes running builds
 * within `--drain`; after that, or on a second signal, it returns them to the queue. Resolves once nothing runs.
 */
export async function runWorkers(
  config: Config,
  adapters: Adapters,
  statuses: StatusReporter,
  io: SetupIo,
  shutdown: Shutdown,
  releaser: Releaser,
): Promise<void> {
  const { stop, now } = within(config.drainMs, shutdown)
  const failed = new AbortController()
  const ending = { stop: AbortSignal.any([stop, failed.signal]), now: AbortSignal.any([now, failed.signal]) }
  const warm = new WarmRepositories()
  const running = new Set<string>()
  if (!adapters.parts.container) void logBuilder(adapters.parts.builder, io.log)
  stop.addEventListener('abort', () => {
    io.log(
      `shutting down: waiting up to ${config.drainMs / 1000} s for running builds; signal again to requeue them now`,
    )
  })
  const working = work(
    {
      ...adapters,
      timeoutMs: config.timeoutMs,
      retryDelays: config.retryDelays,
      statuses,
      warm,
      running,
      onEnd: (build) => io.log(`build ${build.id}: ${outcome(build)}`, about(build)),
      log: io.log,
    },
    config.workers,
    ending,
  )
  // Also if the caller fails.
  releaser.add('workers', working, () => {
    failed.abort()
    return working
  })
  const { container, store } = adapters.parts
  if (container) removeLeftContainers({ container, store, log: io.log }, releaser)
  reportPresence(
    {
      workers: adapters.parts.store.workers,
      slots: config.workers,
      running: () => [...running],
      warm: () => warm.list(),
      log: io.log,
    },
    releaser,
  )
  const warming = warmUp(adapters.parts, { repositories: config.warm, warm, log: io.log }, ending.stop).catch(
    (error: Error) => io.log(`warm: ${error.message}`),
  )
  await Promise.all([working, warming])
}

/** From now on. A process that died is noticed elsewhere, so that looking once, when it starts again, may be too early. */
function removeLeftContainers(parts: Parameters<typeof removeLeftovers>[0], releaser: Releaser): void {
  const failed = logFirst(parts.log, 'removing containers that earlier attempts left', { level: 'warn' })
  const removing = new Periodic(LEFTOVERS_MS, () => removeLeftovers(parts), failed)
  void removing.run()
  releaser.add('leftover containers', removing, (it) => it.stop())
}

/** Logs how this process builds. An engine that is down now may be up when the first job arrives. */
async function logBuilder(builder: Builder, log: (line: string) => void): Promise<void> {
  try {
    log(await builder.describe())
  } catch (error) {
    log(`warning: ${toConveyorError(error, 'cannot reach the builder').advice}`)
  }
}

function outcome(build: Build): string {
  const name = shortName(build)
  return build.state === 'succeeded' ? `${name} succeeded` : `${name} ${build.state}: ${build.error}`
}
