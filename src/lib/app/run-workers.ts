import type { Builder } from '../builder/builder.ts'
import type { Config } from '../config/config.ts'
import { type Build, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { WarmRepositories, warmUp } from '../pipeline/cache/warm.ts'
import type { StatusReporter } from '../pipeline/status-reporter.ts'
import { work } from '../pipeline/worker.ts'
import { atMost, Releaser, type Shutdown, within } from '../util/lifecycle.ts'
import { type Adapters, type SetupIo, setUp, statusReporter } from './setup.ts'
import { VERSION } from './version.ts'

/** How long an end may wait for statuses; the server sets those that were left. */
const LAST_STATUSES_MS = 5000

/**
 * `conveyor worker`: builds what servers have queued, until it is shut down.
 * @throws ConveyorError when a part cannot be opened
 */
export async function runWorker(config: Config, io: SetupIo, shutdown: Shutdown): Promise<void> {
  if (config.queue.kind === 'memory') {
    throw new ConveyorError('invalid', '--queue (QUEUE) is memory://, which only its own process can read', {
      hint: 'Give the queue of the server, postgres:// or sqs://...; or run `conveyor server` alone, which builds what it accepts',
    })
  }
  await using releaser = new Releaser(io.log)
  const adapters = await setUp(config, io, releaser)
  await checkLogs(adapters, io.log)
  const baseUrl = config.url ?? `http://localhost:${config.port}`
  const statuses = statusReporter(adapters, () => baseUrl, io.log)
  if (!config.url) io.log(`warning: no --url (BASE_URL): commit statuses link to ${baseUrl}`)
  const working = runWorkers(config, adapters, statuses, io, shutdown, releaser)
  if (config.logger.kind === 'stdout')
    io.log(
      'build logs go to standard output here, and servers cannot show them: --logger (LOGGER) is stdout://',
    )
  io.log(`conveyor ${VERSION} worker takes jobs from ${config.queue.kind}://, ${config.workers} at a time`)
  await working
  await atMost(LAST_STATUSES_MS, statuses.idle())
  await statuses.close()
}

/**
 * Looks whether logs are safe where they go, before anything is built. A place that does not answer now may do so when
 * the first log is written.
 * @throws ConveyorError `invalid` when they are not
 */
export async function checkLogs(
  { logs }: Pick<Adapters, 'logs'>,
  log: (line: string) => void,
): Promise<void> {
  try {
    await logs.checkWrites?.({ trace: true })
  } catch (thrown) {
    const error = toConveyorError(thrown, 'logs cannot be checked')
    if (error.kind === 'invalid') throw error
    log(`warning: ${error.advice}`)
  }
}

/**
 * Takes jobs and builds, and makes the machine warm beside that. Asked to stop, it finishes what runs,
 * within `--drain`; then, or asked to do it now, it gives the rest back. Resolves when nothing runs.
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
  if (!adapters.parts.container) void sayBuilder(adapters.parts.builder, io.log)
  stop.addEventListener('abort', () => {
    io.log(
      `stopping: running builds are finished first, for ${config.drainMs / 1000} s at most; signal again to give them back now`,
    )
  })
  const working = work(
    {
      ...adapters,
      timeoutMs: config.timeoutMs,
      retryDelays: config.retryDelays,
      statuses,
      warm,
      onEnd: (build) => io.log(`build ${build.id}: ${outcome(build)}`),
      log: io.log,
    },
    config.workers,
    ending,
  )
  // When the caller fails, too.
  releaser.add('workers', working, () => {
    failed.abort()
    return working
  })
  const warming = warmUp(adapters.parts, { repositories: config.warm, warm, log: io.log }, ending.stop).catch(
    (error: Error) => io.log(`warm: ${error.message}`),
  )
  await Promise.all([working, warming])
}

/** How builds are done here; an engine that is down now may be there when the first job comes. */
async function sayBuilder(builder: Builder, log: (line: string) => void): Promise<void> {
  try {
    log(await builder.describe())
  } catch (error) {
    log(`warning: ${toConveyorError(error, 'the builder cannot be asked').advice}`)
  }
}

function outcome(build: Build): string {
  const name = shortName(build)
  return build.state === 'succeeded' ? `${name} is built` : `${name} ${build.state}: ${build.error}`
}
