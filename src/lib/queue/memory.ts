import type { Turn } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import type { Job, Queue } from './queue.ts'
import { TurnList } from './turn-list.ts'

export interface MemoryQueueOptions {
  /** How long a job is held before it is delivered again, in seconds. Default 30. */
  leaseSeconds?: number
  /** Whether other processes may queue the same builds in their own memory. Default: no. */
  shared?: boolean
}

/** A queued build. It is either ready, or waits for its timer: until its lease or delay ends. */
interface Entry {
  buildId: string
  turn: Turn
  /** Number of the last delivery. */
  delivery: number
  /** Whether a worker has it, rather than a delay. */
  leased: boolean
  /** Since when it has been ready, by performance.now(). */
  readyAt: number
  timer: NodeJS.Timeout | undefined
}

/** The longest timeout of setTimeout; anything longer would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * A queue inside one process. Nothing is on disk: the build store knows unfinished builds, and they are sent again at
 * startup. A build that is already queued or leased is not queued a second time.
 */
export function memoryQueue({ leaseSeconds = 30, shared = false }: MemoryQueueOptions = {}): Queue {
  const entries = new Map<string, Entry>()
  const ready = new TurnList<Entry>()
  // Sets keep the order of insertion and forget in constant time: first in, first out.
  const waiters = new Set<(job: Job | null) => void>()
  let closed = false

  /** Gives an entry to the receiver that has waited longest, or keeps it for the next one. */
  function offer(entry: Entry): void {
    clearTimeout(entry.timer)
    entry.leased = false
    entry.readyAt = performance.now()
    const [waiter] = waiters
    if (waiter) waiter(lease(entry))
    else ready.add(entry)
  }

  function offerAfter(entry: Entry, seconds: number): void {
    clearTimeout(entry.timer)
    entry.timer = setTimeout(() => offer(entry), Math.min(seconds * 1000, LONGEST_TIMER_MS))
    // A lease alone must not keep the process alive: the store remembers the build.
    entry.timer.unref()
  }

  function lease(entry: Entry): Job {
    const delivery = ++entry.delivery
    entry.leased = true
    let given = false
    offerAfter(entry, leaseSeconds)

    const held = () => !given && entry.delivery === delivery && !ready.has(entry)
    function mustHold(): void {
      if (held()) return
      throw new ConveyorError('unavailable', `the lease on build ${entry.buildId} was lost`, {
        hint: 'Stop working on it: another worker may have taken it over',
        retryable: false,
      })
    }

    return {
      buildId: entry.buildId,
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
        // A job whose lease was lost is back in the queue already.
        if (!held()) return
        given = true
        entry.leased = false
        if (delaySeconds > 0) offerAfter(entry, delaySeconds)
        else offer(entry)
      },
    }
  }

  return {
    durable: false,
    duplicates: shared,
    leaseSeconds,

    async send({ buildId, turn = { lane: 1, round: 0 } }) {
      if (closed) {
        throw new ConveyorError('unavailable', `cannot queue build ${buildId}: Conveyor is shutting down`)
      }
      const known = entries.get(buildId)
      if (known) {
        if (turn.lane >= known.turn.lane) return
        const wasReady = ready.delete(known)
        known.turn = turn
        if (wasReady) ready.add(known)
        return
      }
      const entry: Entry = { buildId, turn, delivery: 0, leased: false, readyAt: 0, timer: undefined }
      entries.set(buildId, entry)
      offer(entry)
    },

    async receive(signal) {
      if (closed || signal.aborted) return null
      const entry = ready.first()
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

    async depth() {
      const now = performance.now()
      let oldest = now
      for (const { readyAt } of ready) oldest = Math.min(oldest, readyAt)
      return {
        ready: ready.size,
        leased: [...entries.values()].filter(({ leased }) => leased).length,
        oldestSeconds: (now - oldest) / 1000,
      }
    },

    async close() {
      closed = true
      for (const { timer } of entries.values()) clearTimeout(timer)
      for (const answer of [...waiters]) answer(null)
    },
  }
}
