import { ConveyorError } from '../core/errors.ts'
import type { Job, Queue } from './queue.ts'

export interface MemoryQueueOptions {
  /** How long a job is held before it is delivered again, in seconds. Default 30. */
  leaseSeconds?: number
  /** Whether other processes, with queues of their own, may have the same builds. Default: no. */
  shared?: boolean
}

/** One build on its way. It is either ready, or waits for its timer: for its lease, or a delay, to end. */
interface Entry {
  buildId: string
  deliveries: number
  timer: NodeJS.Timeout | undefined
}

/** The longest that setTimeout can wait; anything longer would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * The queue inside one process. It keeps nothing on disk: the build store knows what is unfinished, and a
 * start-up sends it again. A build that is queued or leased already is not queued a second time.
 */
export function memoryQueue({ leaseSeconds = 30, shared = false }: MemoryQueueOptions = {}): Queue {
  const entries = new Map<string, Entry>()
  // Sets keep the order of insertion and forget in constant time: first in, first out.
  const ready = new Set<Entry>()
  const waiters = new Set<(job: Job | null) => void>()
  let closed = false

  /** Hands an entry to whoever has waited longest, or keeps it for the next to ask. */
  function offer(entry: Entry): void {
    clearTimeout(entry.timer)
    const [waiter] = waiters
    if (waiter) waiter(lease(entry))
    else ready.add(entry)
  }

  function offerAfter(entry: Entry, seconds: number): void {
    clearTimeout(entry.timer)
    entry.timer = setTimeout(() => offer(entry), Math.min(seconds * 1000, LONGEST_TIMER_MS))
    // A lease alone is no reason to keep a process alive: the store remembers the build.
    entry.timer.unref()
  }

  function lease(entry: Entry): Job {
    entry.deliveries += 1
    const delivery = entry.deliveries
    let given = false
    offerAfter(entry, leaseSeconds)

    const held = () => !given && entry.deliveries === delivery && !ready.has(entry)
    function mustHold(): void {
      if (held()) return
      throw new ConveyorError('unavailable', `the lease of build ${entry.buildId} is lost`, {
        hint: 'Stop working on it: another worker may have begun',
        retryable: false,
      })
    }

    return {
      buildId: entry.buildId,
      deliveries: delivery,
      async extend(seconds) {
        mustHold()
        offerAfter(entry, seconds)
      },
      async acknowledge() {
        mustHold()
        given = true
        clearTimeout(entry.timer)
        entries.delete(entry.buildId)
      },
      async release(delaySeconds) {
        // A lost lease has given the job back already.
        if (!held()) return
        given = true
        if (delaySeconds > 0) offerAfter(entry, delaySeconds)
        else offer(entry)
      },
    }
  }

  return {
    durable: false,
    duplicates: shared,
    leaseSeconds,

    async send({ buildId }) {
      if (closed) {
        throw new ConveyorError('unavailable', `cannot queue build ${buildId}: conveyor is stopping`)
      }
      if (entries.has(buildId)) return
      const entry: Entry = { buildId, deliveries: 0, timer: undefined }
      entries.set(buildId, entry)
      offer(entry)
    },

    async receive(signal) {
      if (closed || signal.aborted) return null
      const [entry] = ready
      if (entry) {
        ready.delete(entry)
        return lease(entry)
      }
      return new Promise((resolve) => {
        const answer = (job: Job | null) => {
          waiters.delete(answer)
          signal.removeEventListener('abort', aborted)
          resolve(job)
        }
        const aborted = () => answer(null)
        waiters.add(answer)
        signal.addEventListener('abort', aborted)
      })
    },

    async close() {
      closed = true
      for (const { timer } of entries.values()) clearTimeout(timer)
      for (const answer of [...waiters]) answer(null)
    },
  }
}
