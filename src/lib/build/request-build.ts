import type { Queue } from '../queue/queue.ts'
import type { Accepted, BuildStore } from '../store/build-store.ts'
import type { BuildRequest } from './build.ts'

/**
 * Accepts a request: stored first, then queued, so that nothing accepted is lost. What a crash leaves
 * between the two is found in `store.unfinished()` at the next start.
 *
 * A build that some worker already has is not queued again: its job is held under a lease, and comes back
 * by itself when that worker dies. One that is still pending is, because the earlier attempt to queue it
 * may have failed.
 *
 * @throws what the store throws (nothing was accepted), or the queue (the build is stored; asking again,
 * or a restart, queues it).
 */
export async function requestBuild(
  request: BuildRequest,
  { store, queue }: { store: BuildStore; queue: Queue },
): Promise<Accepted> {
  const accepted = await store.accept(request)
  const { build } = accepted
  if (build.state === 'pending') await queue.send({ buildId: build.id, repository: build.repository })
  return accepted
}
