import type { BuildRequest, Turn } from '../core/build.ts'

/** One delivery of a build to a worker, held under a lease. */
export interface Job {
  buildId: string
  /** What to build, if the message contains it: the store may not know the build yet. */
  request?: BuildRequest
  /** Extends the lease to `seconds` from now. @throws ConveyorError when the lease was lost */
  extend(seconds: number): Promise<void>
  /** Removes the job: its build has ended, and the result is stored. */
  acknowledge(): Promise<void>
  /** Requeues the job, to be delivered again after `delaySeconds` (0: immediately). */
  release(delaySeconds: number): Promise<void>
}

interface ReceiveOptions {
  /**
   * Repositories whose layers the worker has cached. Queues that can prefer their jobs, and reserve others for a few
   * seconds for waiting workers that are warm for those.
   */
  warm?: readonly string[]
}

export interface QueueDepth {
  ready: number
  leased: number
  /** Null if the queue does not report it. */
  oldestSeconds: number | null
}

/** A build to deliver. */
interface QueuedBuild {
  buildId: string
  /** Lets adapters group or route jobs. */
  repository: string
  /** Lane 1 and round 0 if it is absent. */
  turn?: Turn
}

/** Delivers jobs at least once, and in turn where the queue can: see Turn; within a round, oldest first. */
export interface Queue {
  /**
   * When it resolves, the job is as durable as the queue. A job that is sent again keeps its turn, unless it is one of a
   * better lane now.
   */
  send(job: QueuedBuild): Promise<void>
  /**
   * Waits for a job and leases it; null once `signal` is aborted. A job that is neither acknowledged, released nor
   * extended before its lease ends is delivered again.
   */
  receive(signal: AbortSignal, options?: ReceiveOptions): Promise<Job | null>
  /**
   * How much work there is, for autoscaling and for people: jobs that are ready, jobs that are leased, and for how many
   * seconds the oldest ready job has been so (0 if there is none).
   */
  depth?(): Promise<QueueDepth>
  /** Whether jobs outlive the process that sent them. If not, unfinished builds are sent again at every startup. */
  readonly durable: boolean
  /**
   * Whether a job may be delivered to one worker while another still holds it, or other processes queue the same builds.
   * The build store then makes sure that only one worker builds; otherwise, a delivery means that no one else has the job.
   */
  readonly duplicates: boolean
  /** How long a lease lasts, in seconds; workers extend well before it ends. */
  readonly leaseSeconds: number
  close(): Promise<void>
}
