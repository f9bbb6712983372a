import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../core/errors.ts'
import type { Job } from '../queue/queue.ts'
import type { Shutdown } from '../util/lifecycle.ts'
import { SharedLock } from '../util/locks/shared-lock.ts'
import { requestBuild } from './accept.ts'
import { Attempt, type AttemptOptions } from './attempt.ts'
import type { WarmRepositories } from './cache/warm.ts'
import { CancelWatch } from './control/cancel-watch.ts'
import { resolveCommit } from './resolve-request.ts'

interface WorkerOptions extends AttemptOptions {
  /** The repositories that this worker is warm for: reported to the queue, and extended by those built here. */
  warm: WarmRepositories
  /** Ids of the builds that run. */
  running?: Set<string>
}

/**
 * Takes jobs from the queue and builds, `concurrency` at a time, until `shutdown.stop`. Running builds are finished
 * then, or requeued at `shutdown.now`. Resolves once nothing runs.
 */
export async function work(options: WorkerOptions, concurrency: number, shutdown: Shutdown): Promise<void> {
  const shared = { builds: new SharedLock(), cancels: new CancelWatch(options.parts.store, options.log) }
  await Promise.all(Array.from({ length: concurrency }, () => workLoop(options, shutdown, shared)))
}

/** What the builds of a process share. */
interface Shared {
  builds: SharedLock
  cancels: CancelWatch
}

async function workLoop(options: WorkerOptions, { stop, now }: Shutdown, shared: Shared): Promise<void> {
  const { builds } = shared
  while (!stop.aborted) {
    try {
      await builds.room(stop)
      const { full } = builds
      const signal = AbortSignal.any([stop, full])
      const job = await options.queue.receive(signal, { warm: options.warm.list() })
      if (job && full.aborted) await job.release(0)
      else if (job) await handle(job, options, now, shared)
    } catch (error) {
      // The queue or the store did not answer. Nothing is lost: the job's lease expires.
      options.log(`worker: ${toConveyorError(error, 'taking a job failed').advice}`, { level: 'error' })
      await sleep(1000, undefined, { signal: stop }).catch(() => {}) // aborted: the loop ends
    }
  }
}

/** Seconds until an in-memory queue retries a build that another process holds; a retry is cheap there. */
const RETRY_HELD_SECONDS = 3

/** One job: claim its build, run an attempt under the job's lease, store the result, acknowledge the job. */
async function handle(job: Job, options: WorkerOptions, now: AbortSignal, shared: Shared): Promise<void> {
  const { builds, cancels } = shared
  const { queue, parts, warm } = options
  const { store } = parts
  const build = queue.duplicates
    ? await store.claimFor(job.buildId, queue.leaseSeconds)
    : await store.claim(job.buildId)
  // Another delivery of the same job: its build is running elsewhere, and may still be cut off there; or it has ended.
  if (build === 'held') return job.release(queue.durable ? queue.leaseSeconds : RETRY_HELD_SECONDS)
  if (!build) return handleUnclaimed(job, options)
  if (!build.suspect && builds.full.aborted) {
    await store.release(build.id, build.attempt, { counts: false })
    return job.release(0)
  }

  options.running?.add(build.id)
  const next = await new Attempt(build, job, options, now, cancels)
    .run(builds)
    .finally(() => options.running?.delete(build.id))
  if (next === 'superseded') return store.survived()
  warm.add(build.repository)
  if (next !== 'ended') return job.release(next.retryIn)
  await job.acknowledge()
}

/**
 * A job without a build to claim. Either the build has ended: it was cancelled while it waited, or its worker may have
 * died before it ended the log. Or the store does not know it, as another program sent the job with a request of its own.
 */
async function handleUnclaimed(job: Job, options: WorkerOptions): Promise<void> {
  const { store } = options.parts
  const build = await store.get(job.buildId)
  if (build) await (await options.logs.open(build.id)).end()
  else if (job.request) {
    const resolved = await resolveCommit(job.request, options.parts)
    await requestBuild({ ...job.request, ...resolved }, { store, queue: options.queue, log: options.log })
  }
  await job.acknowledge()
}
