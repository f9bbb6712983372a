import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { repositoryFilter } from '../core/allowed-repositories.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { sendOverdue } from '../pipeline/accept.ts'
import type { StatusReporter } from '../pipeline/status-reporter.ts'
import { createServer } from '../server/server.ts'
import { aborted, atMost, Releaser, type Shutdown } from '../util/lifecycle.ts'
import { type ReadinessOptions, readiness } from './readiness.ts'
import { recover } from './recover.ts'
import { checkLogs, runWorkers } from './run-workers.ts'
import { type Adapters, type SetupIo, setUp, statusReporter } from './setup.ts'
import { VERSION } from './version.ts'

/** How often builds are looked for that are not in the queue. */
const FEED_MS = 5000
/** How often statuses that could not be set are tried again. */
const SWEEP_MS = 60_000
/** How long an end may wait for statuses; the next start sets those that were left. */
const LAST_STATUSES_MS = 5000

/**
 * Runs the server until it is shut down: webhooks and the API come in, and what an earlier process left is
 * taken up again. With the queue in memory the builds run here, too.
 * @throws ConveyorError when a part cannot be opened, or the port is taken
 */
export async function serve(config: Config, io: SetupIo, shutdown: Shutdown): Promise<void> {
  await using releaser = new Releaser(io.log)
  const adapters = await setUp(config, io, releaser)
  if (!adapters.queue.durable) await checkLogs(adapters, io.log)
  let baseUrl = config.url ?? ''
  const statuses = statusReporter(adapters, () => baseUrl, io.log)

  const server = await createServer({
    store: adapters.parts.store,
    queue: adapters.queue,
    logs: adapters.logs,
    forge: adapters.forge,
    history: adapters.parts.history,
    names: adapters.parts.names,
    latest: adapters.parts.latest,
    githubSecret: config.github.secret,
    auth: config.auth,
    allowedHosts: config.allowedHosts,
    isAllowed: repositoryFilter(config.allow),
    baseUrl: () => baseUrl,
    log: io.log,
    ready: readiness({ parts: partsOf(adapters), log: io.log }),
    version: VERSION,
    spoolDir: join(config.dataDir, 'spool'),
  })
  try {
    await server.listen({ host: config.host, port: config.port })
  } catch (error) {
    throw new ConveyorError(
      'unavailable',
      `cannot listen on ${config.host}:${config.port}: ${(error as Error).message}`,
      {
        cause: error,
        hint: listenHint((error as NodeJS.ErrnoException).code),
      },
    )
  }
  const { port } = server.server.address() as AddressInfo
  baseUrl ||= `http://localhost:${port}`
  releaser.add('HTTP server', server, (it) => it.close())

  // A queue in memory has no workers but ours; of any other, `conveyor worker` takes the jobs.
  const { queue } = adapters
  let working = Promise.resolve()
  if (queue.durable) await feed(adapters, io, releaser)
  else {
    await recover(adapters, releaser, io.log)
    working = runWorkers(config, adapters, statuses, io, shutdown, releaser)
  }
  releaser.add('status sweeper', sweeper(statuses, io), (it) => clearInterval(it))

  io.log(`conveyor ${VERSION} listening on http://${shownHost(config.host)}:${port}`)
  if (queue.durable) io.log(`builds are queued on ${config.queue.kind}://, for \`conveyor worker\``)
  for (const line of doorLines(config)) io.log(line)
  await aborted(shutdown.stop)
  // Until the last build has ended here, its log is read and new requests are accepted.
  await working
  await atMost(LAST_STATUSES_MS, statuses.idle())
  await statuses.close()
}

/** What to do where the server cannot listen. */
function listenHint(code: string | undefined): string {
  if (code === 'EADDRINUSE') return 'Give another --port (PORT), or stop what uses it'
  if (code === 'EACCES') return 'Give a --port (PORT) from 1024 on, or the right to use those below'
  return 'Give an address of this machine as --host (HOST), or 0.0.0.0 for all of them'
}

/** Sends what was accepted while the queue did not answer, or just before we died. */
async function feed({ parts, queue }: Adapters, io: SetupIo, releaser: Releaser): Promise<void> {
  let failing = false
  let sending: Promise<void> | undefined
  const send = async () => {
    try {
      const sent = await sendOverdue({ store: parts.store, queue, log: io.log })
      if (sent > 0)
        io.log(`${sent === 1 ? 'a build that was' : `${sent} builds that were`} overdue: now queued`)
      failing = false
    } catch (error) {
      // Once is enough: the queue is asked every few seconds.
      if (!failing) io.log(`queueing overdue builds: ${toConveyorError(error, 'it failed').advice}`)
      failing = true
    }
    sending = undefined
  }
  const timer = setInterval(() => {
    sending ??= send()
  }, FEED_MS)
  releaser.add('queue feeder', timer, (it) => {
    clearInterval(it)
    return sending
  })
  await send()
}

/** What builds need of a server: where it builds itself, what builds them, too. */
function partsOf({ parts, queue, builderAnswers }: Adapters): ReadinessOptions['parts'] {
  return {
    store: () => parts.store.check(),
    queue: async () => queue.depth?.(),
    ...(!queue.durable && { engine: builderAnswers }),
  }
}

function sweeper(statuses: StatusReporter, io: SetupIo): NodeJS.Timeout {
  const sweep = () => {
    statuses.sweep().catch((error: Error) => io.log(`looking for unset commit statuses: ${error.message}`))
  }
  sweep()
  return setInterval(sweep, SWEEP_MS)
}

/** What is to be known of whom this server answers. */
function doorLines({ auth, allow, github }: Config): string[] {
  const lines: string[] = []
  if (auth === 'none') {
    lines.push(
      'warning: --auth none (BASIC_AUTH): whoever reaches this server may order builds and read all logs',
    )
  }
  if (auth === null) {
    lines.push(
      'no --auth (BASIC_AUTH): only this machine is answered, but for webhooks, /healthz and /readyz',
    )
  }
  if (!github.secret) {
    lines.push(
      'warning: no --github.secret (GITHUB_SECRET): anybody may send pushes. The head of their branch is asked of GitHub, and built',
    )
  }
  if (allow.length > 0) lines.push(`only these repositories are built: ${allow.join(', ')}`)
  return lines
}

function shownHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}
