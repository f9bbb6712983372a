import { ConveyorError } from '../../core/errors.ts'
import type { Job } from '../queue.ts'
import type { Received, SqsApi } from './api.ts'
import type { SqsMessage } from './message.ts'

/** The longest that SQS hides a message, counted from when it was received. */
const LONGEST_LEASE_MS = 12 * 3_600_000
/** Allows for the time that a request takes. */
const MARGIN_MS = 10_000

/**
 * One delivery of a message, just received. The end of its lease is tracked here too: a standard queue accepts requests
 * with the handle of a delivery that is long over.
 */
export function sqsJob(
  queue: SqsApi,
  { handle }: Received,
  { buildId, request }: SqsMessage,
  leaseSeconds: number,
): Job {
  const received = performance.now()
  let heldUntil = received + leaseSeconds * 1000

  /** The visibility timeout to set, in whole seconds: as requested, or the longest that SQS allows. */
  function visibleIn(seconds: number): number {
    const left = received + LONGEST_LEASE_MS - MARGIN_MS - performance.now()
    return Math.max(0, Math.min(Math.ceil(seconds), Math.floor(left / 1000)))
  }

  function lost(): ConveyorError {
    heldUntil = 0
    return new ConveyorError('unavailable', `the lease on build ${buildId} was lost`, {
      hint: 'Continue only while the build store confirms that this worker owns the build',
    })
  }

  return {
    buildId,
    ...(request && { request }),
    async extend(seconds) {
      const now = performance.now()
      const visible = visibleIn(seconds)
      if (now >= heldUntil || visible === 0 || !(await queue.setVisibility(handle, visible))) throw lost()
      heldUntil = now + visible * 1000
    },
    async acknowledge() {
      heldUntil = 0
      // Another worker that has received it finds the build ended.
      await queue.delete(handle)
    },
    async release(delaySeconds) {
      // A job whose lease was lost is back in the queue already.
      if (performance.now() >= heldUntil) return
      heldUntil = 0
      await queue.setVisibility(handle, visibleIn(delaySeconds))
    },
  }
}
