import { randomUUID } from 'node:crypto'
import { type Build, type BuildRequest, isEnded, shortName } from '../core/build.ts'
import { toConveyorError } from '../core/errors.ts'
import { about, type Log } from '../core/log.ts'
import type { Queue } from '../queue/queue.ts'
import type { IdempotencyKey } from '../store/build-list.ts'
import type { Accepted, BuildStore } from '../store/build-store.ts'
import { type CancelParts, endCancelled } from './control/cancel.ts'

export interface RequestParts {
  store: BuildStore
  queue: Queue
  /** The server's own log, one line at a time. */
  log: Log
  /** End the builds that a request supersedes; without them, the next job of each or the status sweeper does. */
  logs?: CancelParts['logs']
  statuses?: CancelParts['statuses']
  observer?: CancelParts['observer']
}

/** A pending build of this age, in seconds, that is not in the queue is overdue. */
const OVERDUE_SECONDS = 5
/** For how many seconds nothing happens to a build before it may have been lost by the queue, and how often one looks. */
const IDLE_SECONDS = 3600

/**
 * Accepts a request: stores it, then queues it, so that nothing accepted is lost. If the queue does not take the
 * build, or the process crashes in between, sendOverdue queues it later. A build that the queue already has is not
 * sent again.
 *
 * @param key makes a request that is repeated get the same build: see BuildStore.accept
 * @throws what the store throws: nothing was accepted then.
 */
export async function requestBuild(
  request: BuildRequest,
  parts: RequestParts,
  key?: IdempotencyKey,
): Promise<Accepted> {
  const accepted = await parts.store.accept(request, key)
  const { build, superseded = [] } = accepted
  const ended = superseded.map((old) => endSuperseded(old, build, parts))
  await queueAccepted(accepted, parts)
  await Promise.all(ended)
  return accepted
}

/** Queues a build that the store has accepted, unless the queue has it. Never rejects: see requestBuild. */
export async function queueAccepted({ build, queued }: Accepted, parts: RequestParts): Promise<void> {
  if (build.state !== 'pending' || queued) return
  await send(build, parts).catch((error: unknown) => {
    const { advice } = toConveyorError(error, 'queueing failed')
    const line = `${shortName(build)} was accepted but could not be queued yet; retrying: ${advice}`
    parts.log(line, { ...about(build), level: 'error' })
  })
}

async function endSuperseded(old: Build, by: Build, parts: RequestParts): Promise<void> {
  const { logs, statuses, observer, log } = parts
  log(`build ${old.id} of ${shortName(old)} is superseded by build ${by.id} of ${shortName(by)}`, about(old))
  if (!isEnded(old.state) || !logs || !statuses) return
  await endCancelled(old, { logs, statuses, log, ...(observer && { observer }) })
}

/**
 * Queues accepted builds that are not in the queue.
 * @returns how many there were
 * @throws what the queue or the store throws
 */
export async function sendOverdue(parts: RequestParts): Promise<number> {
  const builds = await parts.store.unqueued(OVERDUE_SECONDS)
  for (const build of builds) await send(build, parts)
  return builds.length
}

/**
 * Queues builds again that the queue may have lost after it took them: it was purged, a message expired, or another queue
 * was configured. Harmless for all others: a build is in a queue once, or its store gives it to one worker at a time. At
 * most once an hour, by one process of all.
 * @returns how many there were
 * @throws what the queue or the store throws; then the next call tries again
 */
export async function sendIdle(parts: RequestParts): Promise<number> {
  const { leases } = parts.store
  const holder = randomUUID()
  if (!(await leases.take('sending idle builds', holder, IDLE_SECONDS))) return 0
  try {
    const builds = await parts.store.idle(IDLE_SECONDS)
    for (const build of builds) await send(build, parts)
    return builds.length
  } catch (error) {
    await leases.drop('sending idle builds', holder).catch(() => {}) // the first error says more
    throw error
  }
}

async function send(build: Build, { store, queue, log }: RequestParts): Promise<void> {
  await queue.send({ buildId: build.id, repository: build.repository, turn: build.turn })
  if (!queue.durable) return
  // Not awaited: without the mark, the build is only sent a second time, which is harmless.
  store.markQueued(build.id).catch((error: Error) =>
    log(`could not record that ${shortName(build)} is queued: ${error.message}`, {
      ...about(build),
      level: 'warn',
    }),
  )
}
