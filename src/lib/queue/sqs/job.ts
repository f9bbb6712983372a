import { ConveyorError } from '../../core/errors.ts'
import type { Job } from '../queue.ts'
import type { Received, SqsApi } from './api.ts'
import type { SqsMessage } from './message.ts'

/** SQS hides a message for so long, counted from when it was received. */
const LONGEST_LEASE_MS = 12 * 3_600_000
/** For the time that a request is on its way. */
const MARGIN_MS = 10_000

/**
 * One delivery of a message, just received. Its end is also kept here: a standard queue takes requests with the
 * handle of a delivery that is long over.
 */
export function sqsJob(
  queue: SqsApi,
  { handle, deliveries }: Received,
  { buildId, request }: SqsMessage,
  leaseSeconds: number,
): Job {
  const received = performance.now()
  let heldUntil = received + leaseSeconds * 1000

  /** The next time to be seen, in whole seconds: as asked for, or as late as SQS allows. */
  function visibleIn(seconds: number): number {
    const left = received + LONGEST_LEASE_MS - MARGIN_MS - performance.now()
    return Math.max(0, Math.min(Math.ceil(seconds), Math.floor(left / 1000)))
  }

  function lost(): ConveyorError {
    heldUntil = 0
    return new ConveyorError('unavailable', `the lease of build ${buildId} is lost`, {
      hint: 'Go on only as long as the build store says that the build is yours',
    })
  }

  return {
    buildId,
    ...(request && { request }),
    deliveries,
    async extend(seconds) {
      const now = performance.now()
      const visible = visibleIn(seconds)
      if (now >= heldUntil || visible === 0 || !(await queue.setVisibility(handle, visible))) throw lost()
      heldUntil = now + visible * 1000
    },
    async acknowledge() {
      heldUntil = 0
      // Who has it by now finds that the build has ended.
      await queue.delete(handle)
    },
    async release(delaySeconds) {
      // A lost lease has given the job back already.
      if (performance.now() >= heldUntil) return
      heldUntil = 0
      await queue.setVisibility(handle, visibleIn(delaySeconds))
    },
  }
}
