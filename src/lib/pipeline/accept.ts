import { type Build, type BuildRequest, shortName } from '../core/build.ts'
import { toConveyorError } from '../core/errors.ts'
import type { Queue } from '../queue/queue.ts'
import type { Accepted, BuildStore } from '../store/build-store.ts'

interface Parts {
  store: BuildStore
  queue: Queue
  /** Told what the person who runs the server should know, one line at a time. */
  log: (line: string) => void
}

/** A build that is this old, in seconds, and not in the queue is not just on its way there. */
const OVERDUE_SECONDS = 5

/**
 * Accepts a request: stored first, then queued, so that nothing accepted is lost. A build that the queue
 * did not take, because it does not answer or because we crashed before we asked, is left to sendOverdue.
 * One that it has already is not sent again.
 *
 * @throws what the store throws: nothing was accepted then.
 */
export async function requestBuild(request: BuildRequest, parts: Parts): Promise<Accepted> {
  const accepted = await parts.store.accept(request)
  const { build, queued } = accepted
  if (build.state === 'pending' && !queued) {
    await send(build, parts).catch((error: unknown) => {
      const { advice } = toConveyorError(error, 'queueing failed')
      parts.log(`${shortName(build)} is accepted, and queued as soon as that works: ${advice}`)
    })
  }
  return accepted
}

/**
 * Queues what was accepted and is not in the queue.
 * @returns how many builds that were.
 * @throws what the queue throws, or the store.
 */
export async function sendOverdue(parts: Parts): Promise<number> {
  const builds = await parts.store.unqueued(OVERDUE_SECONDS)
  for (const build of builds) await send(build, parts)
  return builds.length
}

async function send(build: Build, { store, queue, log }: Parts): Promise<void> {
  await queue.send({ buildId: build.id, repository: build.repository })
  if (!queue.durable) return
  // Whoever asked need not wait for it: without the note the build is sent twice, which harms nothing.
  store
    .markQueued(build.id)
    .catch((error: Error) => log(`noting that ${shortName(build)} is queued: ${error.message}`))
}
