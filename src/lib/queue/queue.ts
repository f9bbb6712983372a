import type { BuildRequest } from '../core/build.ts'

/** One delivery of a build to a worker, held under a lease. */
export interface Job {
  buildId: string
  /** What to build, where the message says it itself: the store may not know the build yet. */
  request?: BuildRequest
  /** How often this job has been delivered, this time included. */
  deliveries: number
  /** Holds the job for another `seconds` from now. @throws ConveyorError when the lease is lost already. */
  extend(seconds: number): Promise<void>
  /** The build has ended and its end is stored: the job is removed. */
  acknowledge(): Promise<void>
  /** Gives the job back; it is delivered again after `delaySeconds` (0: at once). */
  release(delaySeconds: number): Promise<void>
}

interface ReceiveOptions {
  /**
   * Repositories whose layers the worker has already. A queue that can prefers their jobs, and leaves others
   * for a few seconds to a worker that waits and is warm for them.
   */
  warm?: readonly string[]
}

export interface QueueDepth {
  ready: number
  leased: number
  /** Null where the queue does not tell it. */
  oldestSeconds: number | null
}

/** Jobs, at least once each, oldest first where that costs nothing. */
export interface Queue {
  /** Durable (as far as the adapter is) when it resolves. `repository` lets adapters group or route jobs. */
  send(job: { buildId: string; repository: string }): Promise<void>
  /**
   * Waits for a job and leases it. Null once `signal` is aborted. A job that is neither acknowledged,
   * released nor extended within the lease is delivered again.
   */
  receive(signal: AbortSignal, options?: ReceiveOptions): Promise<Job | null>
  /**
   * How much work there is, for scaling and for people: jobs that wait for a worker, jobs that workers have,
   * and for how many seconds the oldest of the waiting has been ready (0 when none waits).
   */
  depth?(): Promise<QueueDepth>
  /** Whether jobs outlive the process that sent them. What does not is sent again at every start. */
  readonly durable: boolean
  /**
   * Whether a job may be delivered to one worker while another still holds it, be it as other processes have queues
   * of their own for the same builds. The build store then keeps them apart; else a delivery means that nobody has the job any more.
   */
  readonly duplicates: boolean
  /** How long a lease lasts, in seconds; workers extend well before. */
  readonly leaseSeconds: number
  close(): Promise<void>
}
