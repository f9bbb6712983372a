import { getEventListeners } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { memoryQueue } from '../../src/lib/queue/memory.ts'
import type { Job, Queue } from '../../src/lib/queue/queue.ts'
import { queueContract } from './queue.contract.ts'

queueContract('memory', async (lease) => memoryQueue({ leaseSeconds: lease === 'short' ? 0.3 : 3600 }), {
  ordered: true,
  exact: true,
})

describe('memory queue', () => {
  let queue: Queue
  afterEach(() => queue.close())

  async function leased(leaseSeconds: number): Promise<Job> {
    queue = memoryQueue({ leaseSeconds })
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    return received()
  }

  async function received(): Promise<Job> {
    const job = await queue.receive(new AbortController().signal)
    if (!job) throw new Error('the queue was closed')
    return job
  }

  it('leaves nothing on a signal that outlives thousands of waits', async () => {
    queue = memoryQueue()
    const { signal } = new AbortController()
    for (let i = 0; i < 2000; i++) {
      const waiting = queue.receive(signal)
      expect(getEventListeners(signal, 'abort')).toHaveLength(1)
      await queue.send({ buildId: `${i}`, repository: 'acme/app' })
      await (await waiting)?.acknowledge()
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('reports its depth: what is ready, and what workers have, but not what is delayed', async () => {
    const job = await leased(3600)
    expect(await queue.depth?.()).toEqual({ ready: 0, leased: 1, oldestSeconds: 0 })
    for (const buildId of ['b', 'c']) await queue.send({ buildId, repository: 'acme/app' })
    await job.release(3600)
    expect(await queue.depth?.()).toMatchObject({ ready: 2, leased: 0 })
    await received()
    await expect.poll(async () => (await queue.depth?.())?.oldestSeconds).toBeGreaterThan(0.01)
    expect(await queue.depth?.()).toMatchObject({ ready: 1, leased: 1 })
  })

  it('refuses to acknowledge a lost lease, so that the job stays', async () => {
    const lost = await leased(0.05)
    const again = await received()
    await expect(lost.acknowledge()).rejects.toThrow('the lease on build a was lost')
    await again.release(0)
    expect((await received()).buildId).toBe('a')
  })

  it('ignores the release of a lost lease', async () => {
    const lost = await leased(0.05)
    const again = await received()
    await again.extend(3600)
    await lost.release(0)
    expect(await queue.receive(AbortSignal.timeout(100))).toBeNull()
    await again.acknowledge()
  })

  it('accepts an acknowledgement once, and none after a release', async () => {
    const job = await leased(3600)
    await job.release(0)
    await expect(job.acknowledge()).rejects.toThrow('lost')
    const again = await received()
    await again.acknowledge()
    await expect(again.acknowledge()).rejects.toThrow('lost')
    await expect(again.extend(1)).rejects.toThrow('lost')
  })

  it('supports leases longer than the longest timer', async () => {
    const job = await leased(3600)
    await job.extend(10 ** 9)
    expect(await queue.receive(AbortSignal.timeout(100))).toBeNull()
  })

  it('accepts no jobs when it is closed, and lets running ones finish', async () => {
    const job = await leased(3600)
    await queue.close()
    await expect(queue.send({ buildId: 'b', repository: 'acme/app' })).rejects.toThrow(
      'cannot queue build b: Conveyor is shutting down',
    )
    await job.acknowledge()
    await queue.close()
  })
})
