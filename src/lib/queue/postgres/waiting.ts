import type { Postgres } from '../../db/postgres.ts'
import { channelOf, FORGET, LEAVE, WAIT } from './sql.ts'

/** What a look into the queue gave: a job, or in how many seconds there may be one. */
export interface Look<T> {
  job: T | null
  /** Null: not known. */
  nextSeconds: number | null
}

export interface WaitingOptions<T> {
  postgres: Postgres
  /** This process, among those that wait. */
  id: string
  look: (warm: string[]) => Promise<Look<T>>
  /** Takes back a job that nobody here waits for any more. */
  giveBack: (job: T) => Promise<void>
  /** Wakes another process, where this one was woken and has left. */
  wakeOther: () => Promise<void>
}

interface Waiter<T> {
  warm: readonly string[]
  resolve: (job: T | null) => void
  reject: (error: unknown) => void
}

/**
 * How often a process that waits looks by itself, in seconds: so rarely that all of them together look about
 * 20 to 35 times a second, whether they are 40 or 500, and one of them every few hundredths of a second.
 */
const LOOKS_PER_SECOND = 20
const SHORTEST_POLL = 2
const LONGEST_POLL = 15

/**
 * The receivers of one process that wait for a job, as one: told to the others in one row, woken over one
 * connection, and looking with one question at a time.
 */
export class Waiting<T> {
  readonly #options: WaitingOptions<T>
  readonly #waiters = new Set<Waiter<T>>()
  #running: Promise<void> | undefined
  /** Somebody joined or left, or there may be a job: look again. */
  #rung = false
  #ring = () => {}
  #announced = false

  constructor(options: WaitingOptions<T>) {
    this.#options = options
  }

  get size(): number {
    return this.#waiters.size
  }

  /** The next job; null once `signal` is aborted or `close` is called. */
  next(signal: AbortSignal, warm: readonly string[]): Promise<T | null> {
    return new Promise((resolve, reject) => {
      const settled = () => {
        this.#waiters.delete(waiter)
        signal.removeEventListener('abort', aborted)
        this.#wake()
      }
      const waiter: Waiter<T> = {
        warm,
        resolve: (job) => {
          settled()
          resolve(job)
        },
        reject: (error) => {
          settled()
          reject(error)
        },
      }
      const aborted = () => waiter.resolve(null)
      signal.addEventListener('abort', aborted)
      this.#waiters.add(waiter)
      this.#wake()
      this.#running ??= this.#run()
    })
  }

  async close(): Promise<void> {
    for (const waiter of [...this.#waiters]) waiter.resolve(null)
    await this.#running
    // Only in order: what is left behind counts no more within seconds.
    if (this.#announced) await this.#options.postgres.query(FORGET, [this.#options.id]).catch(() => {})
  }

  #wake(): void {
    this.#rung = true
    this.#ring()
  }

  async #run(): Promise<void> {
    // Receivers that leave may have been the last: whoever comes from here on starts another run.
    try {
      await this.#wait()
    } catch (error) {
      for (const waiter of [...this.#waiters]) waiter.reject(error)
    } finally {
      this.#running = this.#waiters.size > 0 ? this.#run() : undefined
    }
  }

  async #wait(): Promise<void> {
    const { postgres, id } = this.#options
    const channel = channelOf(id)
    const stopListening = await postgres.listener.listen(channel, () => this.#wake())
    try {
      await this.#lookUntilNobodyWaits()
    } finally {
      stopListening()
    }
    // The server tells every session that listens of every NOTIFY, whomever that is for: hundreds of them for
    // each job, of which most are busy. Who is not waiting any more is not woken, so nothing is missed.
    await postgres.queryWhileWaiting(`unlisten ${channel}`)
  }

  async #lookUntilNobodyWaits(): Promise<void> {
    const { postgres, id, look, giveBack, wakeOther } = this.#options
    let poll = SHORTEST_POLL
    while (this.#waiters.size > 0) {
      this.#rung = false
      const warm = [...new Set([...this.#waiters].flatMap((waiter) => waiter.warm))]
      const processes = await this.#announce(warm, poll)
      const found = await look(warm)
      if (found.job !== null) {
        const [waiter] = this.#waiters
        if (waiter) waiter.resolve(found.job)
        else await giveBack(found.job)
        continue
      }
      poll = Math.min(Math.max(processes / LOOKS_PER_SECOND, SHORTEST_POLL), LONGEST_POLL)
      const { nextSeconds } = found
      const known = nextSeconds === null ? Number.POSITIVE_INFINITY : Math.max(nextSeconds, 0)
      // All of them may know of the same moment: they come one after the other.
      const spread = Math.random() * Math.min(processes / 100, 1)
      await this.#ringOr(Math.min(poll * (0.75 + Math.random() / 2), known + 0.02 + spread))
    }
    const [left] = await postgres.queryWhileWaiting<{ woken: boolean }>(LEAVE, [id])
    // Another process counts on this one to take a job.
    if (left?.woken) await wakeOther()
  }

  /** Says who waits here; answers how many processes wait. */
  async #announce(warm: string[], poll: number): Promise<number> {
    const { postgres, id } = this.#options
    this.#announced = true
    const rows = await postgres.queryWhileWaiting<{ processes: number }>({
      name: 'conveyor-wait',
      text: WAIT,
      values: [id, this.#waiters.size, warm, 10 + 2 * poll],
    })
    return rows[0]?.processes ?? 1
  }

  async #ringOr(seconds: number): Promise<void> {
    if (this.#rung) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000)
      this.#ring = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#ring = () => {}
  }
}
