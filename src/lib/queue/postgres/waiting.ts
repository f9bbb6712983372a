import type { Postgres } from '../../db/postgres.ts'
import { channelOf, FORGET, LEAVE, WAIT } from './sql.ts'

/** The result of a query: a job, or in how many seconds there may be one. */
export interface Look<T> {
  job: T | null
  /** Null if unknown. */
  nextSeconds: number | null
}

export interface WaitingOptions<T> {
  postgres: Postgres
  /** Identifies this process among those that wait. */
  id: string
  look: (warm: string[]) => Promise<Look<T>>
  /** Releases a job that no receiver here waits for any longer. */
  giveBack: (job: T) => Promise<void>
  /** Wakes another process, when this one was woken after its last receiver left. */
  wakeOther: () => Promise<void>
}

interface Waiter<T> {
  warm: readonly string[]
  resolve: (job: T | null) => void
  reject: (error: unknown) => void
}

/**
 * How often a waiting process polls, in seconds: so rarely that all of them together poll about 20 to 35 times a second,
 * whether they are 40 or 500.
 */
const LOOKS_PER_SECOND = 20
const SHORTEST_POLL = 2
const LONGEST_POLL = 15

/**
 * The waiting receivers of one process, together: registered in one row, woken over one connection, and polling with one
 * query at a time.
 */
export class Waiting<T> {
  readonly #options: WaitingOptions<T>
  readonly #waiters = new Set<Waiter<T>>()
  #running: Promise<void> | undefined
  /** A receiver joined or left, or there may be a job: look again. */
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
    // For tidiness only: the row expires within seconds.
    if (this.#announced) await this.#options.postgres.query(FORGET, [this.#options.id]).catch(() => {})
  }

  #wake(): void {
    this.#rung = true
    this.#ring()
  }

  async #run(): Promise<void> {
    // The last receiver may have left: the next one starts another run.
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
    // The server signals every listening session for every NOTIFY, on whatever channel: hundreds for each job, most of
    // them busy. A process that is no longer waiting is not woken, so it misses nothing.
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
      // All processes may know the same moment: spread them out.
      const spread = Math.random() * Math.min(processes / 100, 1)
      await this.#ringOr(Math.min(poll * (0.75 + Math.random() / 2), known + 0.02 + spread))
    }
    const [left] = await postgres.queryWhileWaiting<{ woken: boolean }>(LEAVE, [id])
    // A job was meant for this process: another one has to take it.
    if (left?.woken) await wakeOther()
  }

  /** Registers the receivers that wait here. @returns how many processes wait */
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
