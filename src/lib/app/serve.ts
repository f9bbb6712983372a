import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { adminSocketOf } from '../core/access/admin-socket.ts'
import { repositoryFilter } from '../core/allowed-repositories.ts'
import { logFirst } from '../core/log.ts'
import { sendIdle, sendOverdue } from '../pipeline/accept.ts'
import { Comparing } from '../pipeline/missed/comparing.ts'
import type { StatusReporter } from '../pipeline/status-reporter.ts'
import { openAdminSocket } from '../server/access/admin-socket.ts'
import type { TrustedProxies } from '../server/access/options.ts'
import { createServer } from '../server/server.ts'
import { aborted, atMost, Releaser, returnSpareHeap, type Shutdown } from '../util/lifecycle.ts'
import { Periodic } from '../util/periodic.ts'
import { listen, serveOperations, shownHost } from './listen.ts'
import { startRebuilding } from './outbound/base-images.ts'
import { startNotifying } from './outbound/notifying.ts'
import { pullTags } from './pulls/pull-tags.ts'
import { readiness, readinessChecks } from './readiness.ts'
import { recover } from './recover.ts'
import { checkLogs, runWorkers } from './run-workers.ts'
import { type Adapters, type SetupIo, setUp, statusReporter } from './setup.ts'
import { openAppSetup, openSignIn } from './setup-github.ts'
import { withTelemetry } from './telemetry.ts'
import { VERSION } from './version.ts'

/** How often accepted builds that are missing from the queue are looked for. */
const FEED_MS = 5000
/** How often it is looked whether it is time to queue again what the queue may have lost. */
const IDLE_MS = 10 * 60_000
/** How often commit statuses that could not be set are retried. */
const SWEEP_MS = 60_000
/** How long a build has ended before a process that did not build it sets its status, in seconds. */
const SWEEP_AFTER_S = 10
/** How often builds are looked for that wait and have no check run. */
const QUEUED_MS = 3000
/** How long shutdown waits for commit statuses; the next start sets the remaining ones. */
const LAST_STATUSES_MS = 5000

/**
 * Runs the server until it is shut down: accepts webhooks and API requests, and recovers what an earlier process
 * left unfinished. With the queue in memory, it also runs the builds.
 * @throws ConveyorError if an adapter cannot be opened, or the port is in use
 */
export async function serve(config: Config, io: SetupIo, shutdown: Shutdown): Promise<void> {
  await using releaser = new Releaser(io.log)
  const opened = await setUp(config, io, releaser)
  // Only this process can work on a queue in memory; other queues are for `conveyor worker`.
  let baseUrl = config.url ?? ''
  const role = { builds: !opened.queue.durable, http: true, baseUrl: () => baseUrl }
  const { adapters, metrics } = await withTelemetry(config, opened, role, releaser)
  if (!adapters.queue.durable) await checkLogs(adapters, io.log)
  const statuses = statusReporter(adapters, config, () => baseUrl, io.log)

  const ready = readiness({ parts: readinessChecks(adapters, role), log: io.log })
  const operations = { version: VERSION, ready, metrics }
  const { store } = adapters.parts
  if (config.db.kind === 'sqlite') {
    const path = adminSocketOf(config.db.file)
    const socket = await openAdminSocket({ path, store, log: io.log })
    if (socket) releaser.add('admin socket', socket, (it) => it.close())
  }
  const tags = pullTags(config, adapters.parts, io.log)
  if (tags) releaser.add('tags of pull requests', tags, (it) => it.stop())
  const server = await createServer({
    store,
    queue: adapters.queue,
    logs: adapters.logs,
    forge: adapters.forge,
    webhooks: adapters.webhooks,
    statuses,
    ...(adapters.observer && { observer: adapters.observer }),
    history: adapters.parts.history,
    names: adapters.parts.names,
    latest: adapters.parts.latest,
    setup: openAppSetup(config, () => baseUrl, io.log),
    githubSecret: config.github.secret,
    webUrl: config.github.webUrl,
    badges: config.badges,
    auth: config.auth,
    signIn: openSignIn(config, io.log),
    allowedHosts: config.allowedHosts,
    proxies: trustedProxies(config.access),
    isAllowed: repositoryFilter(config.allow),
    policy: adapters.policy,
    pulls: config.pulls.enabled === 'on',
    onPullClosed: () => void tags?.run(),
    baseUrl: () => baseUrl,
    log: io.log,
    ...operations,
    spoolDir: join(config.dataDir, 'spool'),
  })
  const port = await listen(server, {
    ...{ host: config.host, port: config.port },
    ...{ portOption: '--port (PORT)', hostOption: '--host (HOST)' },
  })
  baseUrl ||= `http://localhost:${port}`
  releaser.add('HTTP server', server, (it) => it.close())

  const { queue } = adapters
  let working = Promise.resolve()
  if (queue.durable) await feed(adapters, io, releaser)
  else {
    await recover({ store, queue, logs: adapters.logs }, releaser, io.log)
    working = runWorkers(config, adapters, statuses, io, shutdown, releaser)
  }
  compareHeads(config, adapters, statuses, io, releaser)
  // Alone, this process knows what it is reporting.
  const sweepAfterS = queue.durable || queue.duplicates ? SWEEP_AFTER_S : 0
  releaser.add('status sweeper', sweeper(statuses, sweepAfterS, io), async (it) => {
    await statuses.close()
    await it.stop()
  })
  if (config.github.checks !== 'off') {
    releaser.add('queued check runs', queuedReporter(statuses, io), (it) => it.stop())
  }
  startNotifying(config, { store, baseUrl: () => baseUrl, log: io.log }, releaser)
  startRebuilding(config, adapters, io.log, releaser)

  releaser.add('spare heap', returnSpareHeap(), (callOff) => callOff())
  io.log(`conveyor ${VERSION} listening on http://${shownHost(config.host)}:${port}`)
  await serveOperations(config, operations, io, releaser)
  if (queue.durable) io.log(`builds are queued on ${config.queue.kind}:// for \`conveyor worker\``)
  for (const line of accessNotices(config)) io.log(line)
  await aborted(shutdown.stop)
  // Until the last build here is finished, logs can be read and new requests are accepted.
  await working
  await atMost(LAST_STATUSES_MS, statuses.idle())
  await statuses.close()
}

function trustedProxies({ header, headerScope, proxies }: Config['access']): TrustedProxies | null {
  if (proxies === null) return null
  return { has: proxies, login: header === null ? null : { header, scope: headerScope } }
}

/** Builds pushes that no webhook announced, from now on. */
function compareHeads(
  { git, allow, pulls }: Config,
  { parts, queue, logs, policy, remoteHeads, observer }: Adapters,
  statuses: StatusReporter,
  io: SetupIo,
  releaser: Releaser,
): void {
  if (git.compareMs === 0) return
  const comparing = new Comparing({
    ...{ store: parts.store, queue, logs, policy, statuses, log: io.log },
    ...(observer && { observer }),
    ...{ remote: remoteHeads, history: parts.history, pulls: pulls.enabled === 'on' },
    ...{ isAllowed: repositoryFilter(allow), intervalS: git.compareMs / 1000 },
  })
  releaser.add('comparing of branches', comparing, (it) => it.stop())
}

/**
 * Queues builds that were accepted while the queue was unavailable, or just before the process died; and now and then those
 * that the queue may have lost.
 */
async function feed({ parts, queue }: Adapters, io: SetupIo, releaser: Releaser): Promise<void> {
  const request = { store: parts.store, queue, log: io.log }
  const send = async () => {
    const sent = await sendOverdue(request)
    if (sent > 0) io.log(`queued ${sent} overdue ${sent === 1 ? 'build' : 'builds'}`)
  }
  const feeder = new Periodic(FEED_MS, send, logFirst(io.log, 'queueing overdue builds'))
  releaser.add('queue feeder', feeder, (it) => it.stop())
  const sendAgain = async () => void (await sendIdle(request))
  const again = new Periodic(IDLE_MS, sendAgain, logFirst(io.log, 'queueing idle builds again'))
  releaser.add('second queue feeder', again, (it) => it.stop())
  // Nothing waits for that: such builds are an hour old.
  void again.run()
  await feeder.run()
}

function sweeper(statuses: StatusReporter, afterS: number, io: SetupIo): Periodic {
  const failed = logFirst(io.log, 'retrying commit statuses')
  const sweeping = new Periodic(SWEEP_MS, () => statuses.sweep(afterS), failed)
  void sweeping.run()
  return sweeping
}

/** Builds that wait get their check runs from whichever server comes first. */
function queuedReporter(statuses: StatusReporter, io: SetupIo): Periodic {
  const failed = logFirst(io.log, 'check runs of builds that wait')
  return new Periodic(QUEUED_MS, () => statuses.reportQueued(), failed)
}

/** What operators should know about who can use this server. */
function accessNotices({ auth, allow, github }: Config): string[] {
  const lines: string[] = []
  if (auth === 'none') {
    lines.push(
      'warning: --auth (BASIC_AUTH) is none: anyone who can reach this server can start builds and read all logs',
    )
  }
  if (auth === null && github.login) lines.push('people sign in with GitHub; programs need tokens')
  if (auth === null && !github.login) {
    lines.push(
      '--auth (BASIC_AUTH) is not set: only requests from this machine are accepted, except to webhooks, /healthz and /readyz',
    )
  }
  if (!github.secret) {
    lines.push(
      'warning: --github.secret (GITHUB_SECRET) is not set: anyone can send pushes. Only the head of the branch, as GitHub reports it, is built',
    )
  }
  if (allow.length > 0) lines.push(`only these repositories are built: ${allow.join(', ')}`)
  return lines
}
