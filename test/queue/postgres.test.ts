import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { type PostgresQueueOptions, postgresQueue } from '../../src/lib/queue/postgres/queue.ts'
import type { Job, Queue } from '../../src/lib/queue/queue.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { projectRoot, type Running, start } from '../support/processes.ts'
import { queueContract } from './queue.contract.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres[Symbol.asyncDispose]())

queueContract(
  'Postgres',
  async (lease) =>
    postgresQueue({ url: await postgres.database(), leaseSeconds: lease === 'short' ? 2 : 3600 }),
  { ordered: true, exact: true },
)

describe('Postgres queue', () => {
  let url: string
  const opened: Queue[] = []
  beforeEach(async () => {
    url = await postgres.database()
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()))
  })

  /** A queue, as each process opens it. */
  async function open(options: Partial<PostgresQueueOptions> = {}): Promise<Queue> {
    const queue = await postgresQueue({ url, leaseSeconds: 3600, ...options })
    opened.push(queue)
    return queue
  }

  /** A worker in another process: takes a job, prints which, and keeps it (or releases it on a line of stdin). */
  function inAnotherProcess(body: string): Promise<Running> {
    const script = `import { postgresQueue } from ${JSON.stringify(`${projectRoot}src/lib/queue/postgres/queue.ts`)}
      const queue = await postgresQueue({ url: ${JSON.stringify(url)}, leaseSeconds: 2 })
      const never = new AbortController().signal
      ${body}`
    return start(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'pipe' })
  }

  async function ask<Row>(sql: string): Promise<Row[]> {
    const database = new Postgres({ url })
    try {
      return await database.query<Row>(sql)
    } finally {
      await database.close()
    }
  }

  /** Keeps receivers that wait now from expiring, however slow this machine is. */
  const stayWaiting = () => ask(`update queue_waiters set expires_at = now() + interval '1 hour'`)

  const waitingReceivers = async () => {
    const [row] = await ask<{ n: number }>(
      'select coalesce(sum(waiting), 0)::int as n from queue_waiters where expires_at > now()',
    )
    return row?.n
  }

  it('lets many processes open an empty database at once', async () => {
    const queues = await Promise.all(Array.from({ length: 10 }, () => open()))
    await queues[0]?.send({ buildId: 'a', repository: 'acme/app' })
    const end = new AbortController()
    const receiving = queues.map((queue) => queue.receive(end.signal))
    await Promise.race(receiving)
    await sleep(500) // in which no other one gets it
    end.abort()
    const jobs = await Promise.all(receiving)
    expect(jobs.filter((job) => job !== null)).toHaveLength(1)
  })

  it('wakes a worker that waits in another process, long before its next poll', async () => {
    const [server, worker] = [await open(), await open()]
    const delays: number[] = []
    for (let i = 0; i < 10; i++) {
      const waiting = take(worker)
      await expect.poll(waitingReceivers).toBe(1)
      await sleep(50)
      const sent = performance.now()
      await server.send({ buildId: `${i}`, repository: 'acme/app' })
      const job = await waiting
      delays.push(performance.now() - sent)
      await job.acknowledge()
    }
    // Without a notification it looks 1.5 seconds after it began to wait, at the earliest: about 0.1 s before the job
    // was sent.
    expect(delays.toSorted((a, b) => a - b)[5]).toBeLessThan(1_200)
  })

  it('listens only while it waits, because the server notifies every listener of every job', async () => {
    const server = await open()
    const shared = new Postgres({ url })
    const worker = await postgresQueue({ postgres: shared, leaseSeconds: 3600 })
    const channels = () => shared.queryWhileWaiting('select pg_listening_channels()')
    for (const buildId of ['a', 'b']) {
      const waiting = take(worker)
      await expect.poll(channels).toHaveLength(1)
      await server.send({ buildId, repository: 'acme/app' })
      expect((await waiting).buildId).toBe(buildId)
      await expect.poll(channels).toHaveLength(0)
    }
    await worker.close()
    await shared.close()
  })

  it('wakes one process for each job', async () => {
    const server = await open()
    const workers = await Promise.all(Array.from({ length: 6 }, () => open()))
    const waiting = workers.map((worker) => take(worker))
    await expect.poll(waitingReceivers).toBe(6)
    const ids = ['a', 'b', 'c', 'd', 'e', 'f']
    await Promise.all(ids.map((buildId) => server.send({ buildId, repository: 'acme/app' })))
    const jobs = await Promise.all(waiting)
    expect(jobs.map(({ buildId }) => buildId).toSorted()).toEqual(ids)
  })

  it('delivers 500 jobs to 4 processes, each once', async () => {
    const queues = await Promise.all(Array.from({ length: 4 }, () => open()))
    const stop = new AbortController()
    const received: string[] = []
    const receivers = queues.flatMap((queue) =>
      Array.from({ length: 3 }, async () => {
        for (let job = await queue.receive(stop.signal); job; job = await queue.receive(stop.signal)) {
          received.push(job.buildId)
          await job.acknowledge()
          if (received.length === 500) stop.abort()
        }
      }),
    )
    const sent = Array.from({ length: 500 }, (_, i) => `build-${i}`)
    await Promise.all(
      sent.map((buildId, i) => queues[i % 4]?.send({ buildId, repository: `acme/app-${i % 7}` })),
    )
    await Promise.all(receivers)
    expect(received.toSorted()).toEqual(sent.toSorted())
    expect(await queues[0]?.depth?.()).toEqual({ ready: 0, leased: 0, oldestSeconds: 0 })
  })

  it('delivers the job of a worker that was killed when its lease has ended', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const worker = await inAnotherProcess(`
      const job = await queue.receive(never)
      process.stdout.write('took ' + job.buildId)
      setInterval(() => {}, 1000)`)
    await worker.waitFor(/took a/)
    const next = take(queue)
    await worker.kill('SIGKILL')
    expect(await next).toMatchObject({ buildId: 'a' })
  })

  it('keeps the job of a worker in another process leased while that extends it', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const worker = await inAnotherProcess(`
      const job = await queue.receive(never)
      await job.extend(3600)
      process.stdout.write('extended')
      process.stdin.once('data', () => void job.release(0).then(() => process.stdout.write('given back')))`)
    await worker.waitFor(/extended/)
    expect(await queue.receive(AbortSignal.timeout(2_500))).toBeNull()
    const next = take(queue)
    worker.child.stdin?.write('now\n')
    expect(await next).toMatchObject({ buildId: 'a' })
    await worker.kill('SIGKILL')
  })

  it('rejects calls on a lost lease, even when the build was queued again', async () => {
    const queue = await open({ leaseSeconds: 2 })
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const lost = await take(queue)
    const again = await take(queue)
    await again.extend(60)
    const taken = { kind: 'unavailable', retryable: false, message: 'the lease on build a was lost' }
    await expect(lost.acknowledge()).rejects.toMatchObject(taken)
    await expect(lost.extend(5)).rejects.toMatchObject(taken)
    await again.acknowledge()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const requeued = await take(queue)
    await requeued.extend(3600)
    await lost.release(0)
    await expect(lost.acknowledge()).rejects.toMatchObject(taken)
    expect(await queue.receive(AbortSignal.timeout(200))).toBeNull()
    await requeued.acknowledge()
  })

  it('reports its depth', async () => {
    const queue = await open()
    for (const buildId of ['a', 'b', 'c', 'd']) await queue.send({ buildId, repository: 'acme/app' })
    await (await take(queue)).release(3600)
    await take(queue)
    await sleep(1_100)
    const depth = await queue.depth?.()
    expect(depth).toMatchObject({ ready: 2, leased: 1 })
    expect(depth?.oldestSeconds).toBeGreaterThan(1)
  })

  it('accepts no jobs when it is closed, and lets running ones finish on shared connections', async () => {
    const shared = new Postgres({ url })
    const queue = await postgresQueue({ postgres: shared })
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const job = await take(queue)
    const waiting = queue.receive(new AbortController().signal)
    await queue.close()
    expect(await waiting).toBeNull()
    await expect(queue.send({ buildId: 'b', repository: 'acme/app' })).rejects.toThrow(
      'cannot queue build b: Conveyor is shutting down',
    )
    await job.acknowledge()
    expect(await queue.depth?.()).toMatchObject({ ready: 0, leased: 0 })
    await shared.close()
  })

  it('loses no jobs when workers are drained while jobs arrive', async () => {
    const [server, staying, leaving] = [await open(), await open(), await open()]
    const end = new AbortController()
    const received: string[] = []
    async function loop(queue: Queue, signal: AbortSignal): Promise<void> {
      for (let job = await queue.receive(signal); job; job = await queue.receive(signal)) {
        received.push(job.buildId)
        await job.acknowledge()
      }
    }
    const stays = loop(staying, end.signal)
    for (let round = 0; round < 20; round++) {
      const drain = new AbortController()
      const leaves = [1, 2, 3].map(() => loop(leaving, drain.signal))
      // The signal comes while a job is being delivered to a receiver.
      for (let i = 0; i < 5; i++) await server.send({ buildId: `${round}-${i}`, repository: 'acme/app' })
      drain.abort()
      await Promise.all(leaves)
    }
    await expect.poll(() => received.length).toBe(100)
    end.abort()
    await stays
    expect(new Set(received).size).toBe(100)
  })

  describe('warm workers', () => {
    const A = 'acme/a'
    const B = 'acme/B'

    it('get the oldest job that they are warm for', async () => {
      const queue = await open()
      for (const [buildId, repository] of [
        ['a1', A],
        ['b1', B],
        ['a2', A],
        ['b2', B],
      ] as const) {
        await queue.send({ buildId, repository })
      }
      expect((await take(queue, [B.toLowerCase()])).buildId).toBe('b1')
      expect((await take(queue, ['acme/other'])).buildId).toBe('a1')
      expect((await take(queue, [B])).buildId).toBe('b2')
      expect((await take(queue, [B])).buildId).toBe('a2')
    })

    it('are woken before others', async () => {
      const [server, cold, warm] = [await open(), await open({ affinitySeconds: 3600 }), await open()]
      const waiting = [take(cold), take(warm, [A])] as const
      await expect.poll(waitingReceivers).toBe(2)
      await server.send({ buildId: 'a', repository: A })
      expect((await waiting[1]).buildId).toBe('a')
      await server.send({ buildId: 'other', repository: B })
      expect((await waiting[0]).buildId).toBe('other')
    })

    it('get a job at once, while it is reserved from others', async () => {
      const [server, cold, warm] = [await open(), await open({ affinitySeconds: 3600 }), await open()]
      // Two receivers in another process that take nothing because it hangs.
      const hung = await inAnotherProcess(`
        for (const _ of [1, 2]) void queue.receive(never, { warm: ['acme/a'] })
        process.stdin.once('data', () => {
          process.stdout.write('hangs')
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
        })`)
      await expect.poll(waitingReceivers).toBe(2)
      hung.child.stdin?.write('now\n')
      await hung.waitFor(/hangs/)
      await stayWaiting()
      await server.send({ buildId: 'a1', repository: A })
      expect(await cold.receive(AbortSignal.timeout(500))).toBeNull()
      expect((await take(warm, [A])).buildId).toBe('a1')
      await hung.kill('SIGKILL')
    })

    it('that died while waiting delay a job by at most affinitySeconds', async () => {
      const [server, cold] = [await open(), await open({ affinitySeconds: 1 })]
      const died = await inAnotherProcess(`void queue.receive(never, { warm: ['acme/a'] })`)
      await expect.poll(waitingReceivers).toBe(1)
      await died.kill('SIGKILL')
      await stayWaiting()
      const waiting = take(cold)
      await expect.poll(waitingReceivers).toBe(2)
      const sent = performance.now()
      await server.send({ buildId: 'a1', repository: A })
      expect((await waiting).buildId).toBe('a1')
      expect(performance.now() - sent).toBeGreaterThan(900)
    })

    it('a job is not reserved if no warm worker waits', async () => {
      const [server, cold, warm] = [await open(), await open({ affinitySeconds: 3600 }), await open()]
      await server.send({ buildId: 'a0', repository: A })
      await take(warm, [A]) // it is busy from here on
      await server.send({ buildId: 'a1', repository: A })
      expect((await take(cold)).buildId).toBe('a1')
    })

    it('take a job of a later round first only as long as the one whose turn it is may be reserved', async () => {
      const [queue, later] = [await open({ affinitySeconds: 3600 }), await open({ affinitySeconds: 0.1 })]
      const send = (buildId: string, repository: string, round: number) =>
        queue.send({ buildId, repository, turn: { lane: 1, round } })
      await send('b0', B, 0)
      for (const round of [1, 2]) await send(`a${round}`, A, round)
      expect((await take(queue, [A])).buildId).toBe('a1')
      await sleep(200)
      expect((await take(later, [A])).buildId).toBe('b0')
      expect((await take(later, [A])).buildId).toBe('a2')
    })

    it('never starve a job: a much older one comes first', async () => {
      const queue = await open({ headStartSeconds: 0.5 })
      await queue.send({ buildId: 'old', repository: A })
      await sleep(800)
      await queue.send({ buildId: 'new', repository: B })
      expect((await take(queue, [B])).buildId).toBe('old')
      expect((await take(queue, [B])).buildId).toBe('new')
    })
  })

  it('continues after an outage of the server while workers waited', async () => {
    const [server, ...workers] = [await open(), await open(), await open()]
    const stop = new AbortController()
    const problems: unknown[] = []
    const received: string[] = []
    const loops = workers.map(async (queue) => {
      while (!stop.signal.aborted) {
        try {
          const job = await queue.receive(stop.signal)
          if (job) received.push(job.buildId)
          await job?.acknowledge()
        } catch (error) {
          problems.push(error)
          await sleep(50)
        }
      }
    })
    await expect.poll(waitingReceivers).toBe(2)
    for (const [i, signal] of (['SIGINT', 'SIGQUIT'] as const).entries()) {
      await postgres.stop(signal)
      await expect(server.send({ buildId: 'lost', repository: 'acme/app' })).rejects.toMatchObject({
        kind: 'unavailable',
        retryable: true,
      })
      await postgres.start()
      await expect.poll(waitingReceivers).toBe(2)
      for (const half of ['a', 'b']) await server.send({ buildId: `${half}${i}`, repository: 'acme/app' })
      await expect.poll(() => received.length).toBe(2 * (i + 1))
    }
    stop.abort()
    await Promise.all(loops)
    expect(received.toSorted()).toEqual(['a0', 'a1', 'b0', 'b1'])
    for (const problem of problems)
      expect(problem).toMatchObject({ name: 'ConveyorError', kind: 'unavailable' })
  })
})

async function take(queue: Queue, warm: string[] = []): Promise<Job> {
  const job = await queue.receive(new AbortController().signal, { warm })
  if (!job) throw new Error('the queue was closed')
  return job
}
