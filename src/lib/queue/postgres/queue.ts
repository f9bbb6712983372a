import { randomUUID } from 'node:crypto'
import { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { type PostgresSource, usePostgres } from '../../db/postgres.ts'
import { migratePostgres } from '../../db/postgres-tables.ts'
import type { Job, Queue, QueueDepth } from '../queue.ts'
import * as statements from './sql.ts'
import { migrations } from './tables.ts'
import { type Look, Waiting } from './waiting.ts'

export type PostgresQueueOptions = PostgresSource & {
  /** How long a job is held before it is delivered again, in seconds. Default 30. */
  leaseSeconds?: number
  /**
   * How long a job is reserved for waiting workers that are warm for its repository, in seconds. Default 3; with 0, any
   * worker gets it at once.
   */
  affinitySeconds?: number
  /**
   * How many seconds younger than the job whose turn it is one may be for a worker to take it first because it is warm
   * for it.
   * Default 30.
   */
  headStartSeconds?: number
}

/** The longest timeout of setTimeout. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * Jobs in a Postgres database, for any number of processes. Each process claims jobs itself, with one statement; there
 * is no scheduler that could fail. Not built on pg-boss, which cannot reserve a job for a warm worker, detects a dead
 * worker only through a monitor (heartbeats of 10 s or more, checked once a minute), and counts every released job
 * against its retries.
 *
 * Sending a job wakes one waiting process by NOTIFY: a warm one if there is any. What that misses (a process that died,
 * a lease that ended) is found by waiting processes, which also poll now and then.
 */
export async function postgresQueue(options: PostgresQueueOptions): Promise<Queue> {
  const { leaseSeconds = 30, affinitySeconds = 3, headStartSeconds = 30 } = options
  const { postgres, release: releaseDatabase } = usePostgres(options)
  const id = randomUUID().replaceAll('-', '') // part of a channel's name
  try {
    await migratePostgres(postgres, { name: 'queue', first: 'queue_jobs', migrations })
    await postgres.query(statements.FORGET, [id])
  } catch (error) {
    await releaseDatabase()
    throw error
  }

  const timers = new Set<NodeJS.Timeout>()
  const receiving = new Set<Promise<unknown>>()
  let closing: Promise<void> | undefined

  const wake = (repository: string) => postgres.query(statements.WAKE, [repository])

  /** Wakes a process when a delay is over. Otherwise, a poll would find the job a little later. */
  function wakeAfter(seconds: number, repository: string): void {
    const timer = setTimeout(
      () => {
        timers.delete(timer)
        wake(repository).catch(() => {}) // the database is unreachable, which waiting processes notice themselves
      },
      Math.min(seconds * 1000 + 5, LONGEST_TIMER_MS),
    )
    timer.unref()
    timers.add(timer)
  }

  async function look(warm: string[], whileWaiting: boolean): Promise<Look<Delivery>> {
    const query = {
      name: 'conveyor-claim',
      text: statements.CLAIM,
      values: [warm, id, leaseSeconds, affinitySeconds, headStartSeconds],
    }
    const [row] = whileWaiting
      ? await postgres.queryWhileWaiting<statements.ClaimRow>(query)
      : await postgres.query<statements.ClaimRow>(query)
    if (!row || row.build_id === null) return { job: null, nextSeconds: row?.next_seconds ?? null }
    return { job: { ...row, build_id: row.build_id }, nextSeconds: null }
  }

  async function giveBack(delivery: Delivery, seconds: number): Promise<void> {
    const released = await postgres.query(statements.RELEASE, [...tokenOf(delivery), seconds])
    if (released.length === 0) return // a job whose lease was lost is back in the queue already
    if (seconds > 0) wakeAfter(seconds, delivery.repository)
    else await wake(delivery.repository)
  }

  function jobOf(delivery: Delivery): Job {
    async function whileHeld(statement: string, values: unknown[]): Promise<void> {
      if ((await postgres.query(statement, values)).length > 0) return
      throw new ConveyorError('unavailable', `the lease on build ${delivery.build_id} was lost`, {
        hint: 'Stop working on it: another worker may have taken it over',
        retryable: false,
      })
    }
    return {
      buildId: delivery.build_id,
      extend: (seconds) => whileHeld(statements.EXTEND, [...tokenOf(delivery), seconds]),
      acknowledge: () => whileHeld(statements.ACKNOWLEDGE, tokenOf(delivery)),
      release: (seconds) => giveBack(delivery, seconds),
    }
  }

  const waiting = new Waiting<Delivery>({
    postgres,
    id,
    look: (warm) => look(warm, true),
    giveBack: (delivery) => giveBack(delivery, 0),
    wakeOther: async () => void (await wake('')),
  })

  async function receive(signal: AbortSignal, warm: readonly string[]): Promise<Job | null> {
    // While others here wait, the queue was empty a moment ago: one query serves all of them.
    const found = waiting.size === 0 ? (await look([...warm], false)).job : null
    const stopped = signal.aborted || closing !== undefined
    if (found && stopped) await giveBack(found, 0)
    if (stopped) return null
    const delivery = found ?? (await waiting.next(signal, warm))
    return delivery && jobOf(delivery)
  }

  async function close(): Promise<void> {
    for (const timer of timers) clearTimeout(timer)
    try {
      await waiting.close()
      await Promise.allSettled(receiving)
    } finally {
      await releaseDatabase()
    }
  }

  return {
    durable: true,
    duplicates: false,
    leaseSeconds,

    async send({ buildId, repository, turn = { lane: 1, round: 0 } }) {
      if (closing) {
        throw new ConveyorError('unavailable', `cannot queue build ${buildId}: Conveyor is shutting down`)
      }
      const key = repositoryKey(repository)
      const sent = await postgres.query(statements.SEND, [buildId, key, turn.lane, turn.round])
      if (sent.length > 0) await wake(key)
    },

    async receive(signal, { warm = [] } = {}) {
      if (closing || signal.aborted) return null
      const received = receive(signal, warm.map(repositoryKey))
      receiving.add(received)
      try {
        return await received
      } finally {
        receiving.delete(received)
      }
    },

    async depth() {
      const [depth] = await postgres.query<QueueDepth>(statements.DEPTH)
      if (!depth) throw new Error('an aggregate without a row')
      return depth
    },

    close: () => (closing ??= close()),
  }
}

interface Delivery extends statements.ClaimRow {
  build_id: string
}

/** Identifies one delivery of a job, unlike any lost or earlier delivery of the same build. */
function tokenOf({ build_id, seq, deliveries }: Delivery): [string, string, number] {
  return [build_id, seq, deliveries]
}
