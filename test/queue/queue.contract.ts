import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { Job, Queue } from '../../src/lib/queue/queue.ts'

export interface QueueTraits {
  /** Whether waiting jobs are delivered in the order in which they were sent. */
  ordered: boolean
  /** Whether a build that is already in the queue is not queued again, and no job is delivered needlessly. */
  exact: boolean
}

/**
 * What every queue promises. `open` makes an empty queue: with a `short` lease for the tests that wait for one to end
 * (as short as may be, if the next call is to come in time on a busy machine), and with a `long` one that no test
 * outlives.
 */
export function queueContract(
  name: string,
  open: (lease: 'short' | 'long') => Promise<Queue>,
  traits: QueueTraits,
): void {
  describe(`${name} (queue contract)`, () => {
    const opened: Queue[] = []
    async function queueWith(lease: 'short' | 'long', ...buildIds: string[]): Promise<Queue> {
      const queue = await open(lease)
      opened.push(queue)
      for (const buildId of buildIds) await queue.send({ buildId, repository: 'acme/app' })
      return queue
    }
    afterEach(async () => {
      await Promise.all(opened.splice(0).map((queue) => queue.close()))
    })

    it('delivers a job once', async () => {
      const queue = await queueWith('long', 'a')
      const job = await take(queue)
      expect(job.buildId).toBe('a')
      await job.acknowledge()
      expect(await nothingWithin(queue, 0.3)).toBe(true)
    })

    it('delivers each of several jobs, oldest first if the queue is ordered', async () => {
      const sent = ['a', 'b', 'c', 'd', 'e']
      const queue = await queueWith('long', ...sent)
      const received: string[] = []
      for (const _ of sent) {
        const job = await take(queue)
        received.push(job.buildId)
        await job.acknowledge()
      }
      expect(traits.ordered ? received : received.toSorted()).toEqual(sent)
    })

    if (traits.ordered) {
      const drained = async (queue: Queue, jobs: number): Promise<string[]> => {
        const received: string[] = []
        for (let i = 0; i < jobs; i++) {
          const job = await take(queue)
          received.push(job.buildId)
          await job.acknowledge()
        }
        return received
      }
      const sendTo = (queue: Queue, buildId: string, lane: 0 | 1, round: number) =>
        queue.send({ buildId, repository: `acme/${buildId.slice(0, 1)}`, turn: { lane, round } })

      it('delivers by lane, then round, then oldest first', async () => {
        const queue = await queueWith('long')
        for (const round of [0, 1, 2]) await sendTo(queue, `a${round}`, 1, round)
        for (const round of [0, 1]) await sendTo(queue, `b${round}`, 1, round)
        await sendTo(queue, 'c', 0, 7)
        expect(await drained(queue, 6)).toEqual(['c', 'a0', 'b0', 'a1', 'b1', 'a2'])
      })

      it('moves a job that is sent again to a better lane, and never to a worse one', async () => {
        const queue = await queueWith('long')
        await sendTo(queue, 'a', 1, 0)
        await sendTo(queue, 'b', 1, 1)
        await sendTo(queue, 'c', 0, 1)
        await sendTo(queue, 'b', 0, 0)
        await sendTo(queue, 'c', 1, 0)
        expect(await drained(queue, 3)).toEqual(['b', 'c', 'a'])
      })

      it('keeps the turn of a job that is released', async () => {
        const queue = await queueWith('long')
        await sendTo(queue, 'a', 1, 0)
        const job = await take(queue)
        await sendTo(queue, 'b', 1, 1)
        await sendTo(queue, 'a', 0, 0)
        await job.release(0)
        await sendTo(queue, 'c', 1, 0)
        expect(await drained(queue, 3)).toEqual(['a', 'c', 'b'])
      })

      it('makes the job of one repository wait for one of those of another, not for all of them', async () => {
        const behind = async (turns: boolean) => {
          const queue = await queueWith('long')
          for (let i = 0; i < 50; i++) await sendTo(queue, `a${i}`, 1, turns ? i : 0)
          await sendTo(queue, 'b', 1, 0)
          return (await drained(queue, 51)).indexOf('b')
        }
        expect(await behind(true)).toBe(1)
        expect(await behind(false)).toBe(50)
      })
    }

    it('wakes a receiver that was waiting before the job', async () => {
      const queue = await queueWith('long')
      const waiting = take(queue)
      await sleep(50)
      await queue.send({ buildId: 'late', repository: 'acme/app' })
      expect((await waiting).buildId).toBe('late')
    })

    it('gives concurrent receivers different jobs', async () => {
      const queue = await queueWith('long')
      const waiting = [take(queue), take(queue), take(queue)]
      for (const buildId of ['a', 'b', 'c']) await queue.send({ buildId, repository: 'acme/app' })
      const jobs = await Promise.all(waiting)
      expect(jobs.map((job) => job.buildId).toSorted()).toEqual(['a', 'b', 'c'])
    })

    it('accepts any string as a build id', async () => {
      const odd = `${'x'.repeat(300)} "quoted" ünï/../:&<b> 🐳`
      const queue = await queueWith('long', odd)
      expect((await take(queue)).buildId).toBe(odd)
    })

    it('delivers a job again when its lease ends, and rejects calls of the worker that lost it', async () => {
      const queue = await queueWith('short', 'a')
      const lost = await take(queue)
      const again = await takeFor(queue, 60)
      expect(again.buildId).toBe('a')
      await expect(lost.extend(1)).rejects.toMatchObject({ name: 'ConveyorError' })
      await again.acknowledge()
    })

    it('holds a job for as long as it is extended, and no longer', async () => {
      const queue = await queueWith('short', 'a')
      const job = await takeFor(queue, 3600)
      expect(await nothingWithin(queue, 1.5 * queue.leaseSeconds)).toBe(true)
      await job.extend(queue.leaseSeconds)
      expect((await take(queue)).buildId).toBe('a')
    })

    it('counts an extension from now, not from the end of the lease', async () => {
      const queue = await queueWith('short', 'a')
      const job = await takeFor(queue, 3600)
      await job.extend(queue.leaseSeconds)
      expect((await take(queue)).buildId).toBe('a')
    })

    it('delivers a released job at once', async () => {
      const queue = await queueWith('long', 'a')
      await (await take(queue)).release(0)
      expect((await take(queue)).buildId).toBe('a')
    })

    it('delivers a job that was released with a delay after the delay', async () => {
      const queue = await queueWith('long', 'a')
      const job = await take(queue)
      const released = performance.now()
      await job.release(1)
      expect((await take(queue)).buildId).toBe('a')
      expect(performance.now() - released).toBeGreaterThan(900)
    })

    it('delivers other jobs before one that was released with a delay', async () => {
      const queue = await queueWith('long', 'a')
      await (await take(queue)).release(3600)
      await queue.send({ buildId: 'b', repository: 'acme/app' })
      expect((await take(queue)).buildId).toBe('b')
    })

    it('ends a wait when the signal is aborted, without losing a job', async () => {
      const queue = await queueWith('long')
      const stop = new AbortController()
      const waiting = Promise.all([queue.receive(stop.signal), queue.receive(stop.signal)])
      stop.abort()
      expect(await waiting).toEqual([null, null])
      await queue.send({ buildId: 'a', repository: 'acme/app' })
      expect(await queue.receive(stop.signal)).toBeNull()
      expect((await take(queue)).buildId).toBe('a')
    })

    it('ends every wait when it is closed', async () => {
      const queue = await queueWith('long')
      const waiting = [
        queue.receive(new AbortController().signal),
        queue.receive(new AbortController().signal),
      ]
      await queue.close()
      expect(await Promise.all(waiting)).toEqual([null, null])
    })

    it('delivers 1,000 jobs to 8 receivers', async () => {
      const queue = await queueWith('long')
      const sent = Array.from({ length: 1000 }, (_, i) => `build-${i}`)
      const received: string[] = []
      const stop = new AbortController()
      async function receiver(): Promise<void> {
        for (let job = await queue.receive(stop.signal); job; job = await queue.receive(stop.signal)) {
          received.push(job.buildId)
          await job.acknowledge()
          if (new Set(received).size === sent.length) stop.abort()
        }
      }
      const receivers = Array.from({ length: 8 }, receiver)
      await Promise.all(sent.map((buildId) => queue.send({ buildId, repository: 'acme/app' })))
      await Promise.all(receivers)
      const seen = traits.exact ? received : [...new Set(received)]
      expect(seen.toSorted()).toEqual(sent.toSorted())
    })

    if (traits.exact) {
      it('queues a build that is ready, leased or delayed only once', async () => {
        const queue = await queueWith('long', 'a', 'a')
        const job = await take(queue)
        await queue.send({ buildId: 'a', repository: 'acme/app' })
        expect(await nothingWithin(queue, 0.1)).toBe(true)
        await job.release(3600)
        await queue.send({ buildId: 'a', repository: 'acme/app' })
        expect(await nothingWithin(queue, 0.1)).toBe(true)
      })

      it('queues a build again after it was acknowledged', async () => {
        const queue = await queueWith('long', 'a')
        await (await take(queue)).acknowledge()
        await queue.send({ buildId: 'a', repository: 'acme/app' })
        expect((await take(queue)).buildId).toBe('a')
      })
    }
  })
}

/** Waits for the next job; if none comes, the test's own time limit ends the wait. */
async function take(queue: Queue): Promise<Job> {
  const job = await queue.receive(new AbortController().signal)
  if (!job) throw new Error('the queue was closed')
  return job
}

/** Takes the next job and extends its lease; takes it again if a short lease ended before that. */
async function takeFor(queue: Queue, seconds: number): Promise<Job> {
  for (;;) {
    const job = await take(queue)
    try {
      await job.extend(seconds)
      return job
    } catch (error) {
      expect(error).toMatchObject({ name: 'ConveyorError' })
    }
  }
}

async function nothingWithin(queue: Queue, seconds: number): Promise<boolean> {
  return (await queue.receive(AbortSignal.timeout(Math.round(seconds * 1000)))) === null
}
