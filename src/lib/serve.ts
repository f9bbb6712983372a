import type { AddressInfo } from 'node:net'
import { type Build, shortName } from './build/build.ts'
import type { StatusReporter } from './build/report-status.ts'
import { warmUp } from './build/warm.ts'
import type { Config } from './config.ts'
import { ConveyorError } from './errors.ts'
import { atMost, Releaser } from './lifecycle.ts'
import { createServer } from './server/server.ts'
import { type Adapters, type SetupIo, setUp, statusReporter } from './setup.ts'
import { VERSION } from './version.ts'
import { work } from './worker.ts'

/** How often statuses that could not be set are tried again. */
const SWEEP_MS = 60_000
/** How long an end may wait for statuses; the next start sets those that were left. */
const LAST_STATUSES_MS = 5000

/**
 * Runs the server and its workers until `stop` is aborted: webhooks and the API come in, builds run, and
 * what an earlier process left is taken up again.
 * @throws ConveyorError when a part can not be opened, or the port is taken
 */
export async function serve(config: Config, io: SetupIo, stop: AbortSignal): Promise<void> {
  await using releaser = new Releaser(io.log)
  const adapters = await setUp(config, io, releaser)
  let baseUrl = config.url ?? ''
  const statuses = statusReporter(adapters, () => baseUrl, io.log)

  const server = await createServer({
    store: adapters.parts.store,
    queue: adapters.queue,
    logs: adapters.logs,
    forge: adapters.forge,
    githubSecret: config.github.secret,
    auth: config.auth,
    baseUrl: () => baseUrl,
    log: io.log,
    version: VERSION,
  })
  try {
    await server.listen({ host: config.host, port: config.port })
  } catch (error) {
    throw new ConveyorError(
      'unavailable',
      `can not listen on ${config.host}:${config.port}: ${(error as Error).message}`,
      {
        cause: error,
        hint: 'Give another --port (PORT), or stop what uses it',
      },
    )
  }
  const { port } = server.server.address() as AddressInfo
  baseUrl ||= `http://localhost:${port}`
  releaser.add('HTTP server', server, (it) => it.close())

  await recover(adapters)
  const stopWork = new AbortController()
  const working = work(
    {
      ...adapters,
      timeoutMs: config.timeoutMs,
      retryDelays: config.retryDelays,
      statuses,
      onEnd: (build) => io.log(`build ${build.id}: ${outcome(build)}`),
      log: io.log,
    },
    config.workers,
    stopWork.signal,
  )
  releaser.add('workers', working, () => {
    stopWork.abort()
    return working
  })
  const warming = warmUp(adapters.parts, { repositories: config.warm, log: io.log }, stopWork.signal).catch(
    (error: Error) => io.log(`warm: ${error.message}`),
  )
  releaser.add('status sweeper', sweeper(statuses, io), (it) => clearInterval(it))

  io.log(`conveyor ${VERSION} listening on http://${shownHost(config.host)}:${port}`)
  if (!config.github.secret)
    io.log('warning: no --github.secret (GITHUB_SECRET): webhooks are accepted unsigned')
  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))

  io.log('stopping: running builds are given back and go on at the next start')
  stopWork.abort()
  await Promise.all([working, warming])
  await atMost(LAST_STATUSES_MS, statuses.idle())
  await statuses.close()
}

/**
 * Takes up what an earlier process left: builds that were accepted but not ended go back into the queue,
 * and the logs of builds that ended just before it died are ended too.
 */
async function recover({ parts, queue, logs }: Adapters): Promise<void> {
  for (const build of await parts.store.unreported()) {
    const log = await logs.open(build.id)
    await log.end()
  }
  for (const build of await parts.store.unfinished()) {
    await queue.send({ buildId: build.id, repository: build.repository })
  }
}

function sweeper(statuses: StatusReporter, io: SetupIo): NodeJS.Timeout {
  const sweep = () => {
    statuses.sweep().catch((error: Error) => io.log(`looking for unset commit statuses: ${error.message}`))
  }
  sweep()
  return setInterval(sweep, SWEEP_MS)
}

function outcome(build: Build): string {
  const name = shortName(build)
  return build.state === 'succeeded' ? `${name} is built` : `${name} ${build.state}: ${build.error}`
}

function shownHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}
