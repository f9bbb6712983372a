import type { Job } from '../queue.ts'

interface Waiter {
  give(job: Job | null): void
  fail(error: unknown): void
}

/**
 * The receivers of one process share one long poll, for as many messages as there are waiting receivers (at most 10). So
 * an idle process costs three requests a minute however many workers it has, and never holds a message that no one works
 * on.
 *
 * The poll continues when its receivers are gone: SQS does not notice that a caller hung up, and would lose the next message
 * to it. What it still returns goes to receivers that have come since, or back to the queue.
 */
export class SqsReceivers {
  readonly #poll: (max: number, signal: AbortSignal) => Promise<Job[]>
  readonly #waiters = new Set<Waiter>()
  readonly #closing = new AbortController()
  #pumping: Promise<void> | null = null

  /** @param poll runs one long poll for at most `max` jobs; rejects when it failed or was aborted */
  constructor(poll: (max: number, signal: AbortSignal) => Promise<Job[]>) {
    this.#poll = poll
  }

  /** The next job, or null once `signal` is aborted. Rejects when the queue cannot be read. */
  next(signal: AbortSignal): Promise<Job | null> {
    if (this.#closing.signal.aborted || signal.aborted) return Promise.resolve(null)
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiters.delete(waiter)
        signal.removeEventListener('abort', aborted)
      }
      const waiter: Waiter = {
        give(job) {
          leave()
          resolve(job)
        },
        fail(error) {
          leave()
          reject(error)
        },
      }
      const aborted = () => waiter.give(null)
      this.#waiters.add(waiter)
      signal.addEventListener('abort', aborted)
      this.#pumping ??= this.#pump()
    })
  }

  /** Ends every wait, and the poll with them. */
  async close(): Promise<void> {
    this.#closing.abort()
    for (const waiter of [...this.#waiters]) waiter.give(null)
    await this.#pumping
  }

  async #pump(): Promise<void> {
    // Receivers that come together share the first poll.
    await null
    const { signal } = this.#closing
    try {
      while (this.#waiters.size > 0 && !signal.aborted) {
        const jobs = await this.#poll(Math.min(this.#waiters.size, 10), signal)
        await Promise.all(jobs.map((job) => this.#handOut(job)))
      }
    } catch (error) {
      // Aborted by close: no one waits any longer.
      for (const waiter of [...this.#waiters]) waiter.fail(error)
    }
    this.#pumping = null
  }

  /** Gives a job to the receiver that has waited longest. Some may have left since, and others come. */
  async #handOut(job: Job): Promise<void> {
    const [waiter] = this.#waiters
    if (waiter) waiter.give(job)
    // If this fails, the job is delivered again when its lease ends.
    else await job.release(0).catch(() => {})
  }
}
