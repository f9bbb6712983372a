import { getEventListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { mapConcurrently } from '../../../src/lib/util/collections/map-concurrently.ts'
import { Semaphore } from '../../../src/lib/util/locks/semaphore.ts'

describe('Semaphore', () => {
  it('runs as many tasks at once as its limit, in order of arrival', async () => {
    const semaphore = new Semaphore(2)
    const events: string[] = []
    let running = 0
    let most = 0
    const task = (name: string) =>
      semaphore.run(async () => {
        events.push(name)
        most = Math.max(most, ++running)
        await sleep(5)
        running -= 1
      })
    await Promise.all(['a', 'b', 'c', 'd', 'e'].map(task))
    expect(events).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(most).toBe(2)
  })

  it('passes on the turn of a task that failed', async () => {
    const semaphore = new Semaphore(1)
    const failed = semaphore.run(() => Promise.reject(new Error('no')))
    const next = semaphore.run(async () => 'ran')
    await expect(failed).rejects.toThrow('no')
    expect(await next).toBe('ran')
  })

  it('leaves the line when the signal is aborted, without losing a turn', async () => {
    const semaphore = new Semaphore(1)
    await semaphore.acquire()
    const leave = new AbortController()
    const leaving = semaphore.acquire(leave.signal)
    const staying = semaphore.acquire()
    leave.abort(new Error('gone'))
    await expect(leaving).rejects.toThrow('gone')
    semaphore.release()
    await staying
    semaphore.release()
    await semaphore.acquire()
    expect(getEventListeners(leave.signal, 'abort')).toHaveLength(0)
  })

  it('keeps a turn that came just before the abort', async () => {
    const semaphore = new Semaphore(1)
    await semaphore.acquire()
    const abort = new AbortController()
    const waiting = semaphore.acquire(abort.signal)
    semaphore.release()
    abort.abort(new Error('too late'))
    await waiting
    semaphore.release()
    await semaphore.acquire()
  })

  it('gives no turn to a signal that is aborted already', async () => {
    const semaphore = new Semaphore(1)
    await expect(semaphore.acquire(AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
    await semaphore.acquire()
  })
})

describe('mapConcurrently', () => {
  it('keeps the order of the items and the limit', async () => {
    let running = 0
    let most = 0
    const results = await mapConcurrently([30, 1, 20, 2, 10], 3, async (ms) => {
      most = Math.max(most, ++running)
      await sleep(ms)
      running -= 1
      return ms * 2
    })
    expect(results).toEqual([60, 2, 40, 4, 20])
    expect(most).toBe(3)
  })

  it('rejects with the first error', async () => {
    const work = async (item: number) => {
      if (item === 2) throw new Error('no')
    }
    await expect(mapConcurrently([1, 2, 3], 2, work)).rejects.toThrow('no')
  })
})
