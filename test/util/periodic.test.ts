import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Periodic } from '../../src/lib/util/periodic.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('Periodic', () => {
  it('repeats the work, and never does it twice at the same time', async () => {
    const begun: PromiseWithResolvers<void>[] = []
    const work = () => {
      const next = Promise.withResolvers<void>()
      begun.push(next)
      return next.promise
    }
    const periodic = new Periodic(100, work, () => {})
    await vi.advanceTimersByTimeAsync(99)
    expect(begun).toHaveLength(0)
    await vi.advanceTimersByTimeAsync(301)
    expect(begun).toHaveLength(1)
    const joined = periodic.run()
    expect(begun).toHaveLength(1)
    begun[0]?.resolve()
    await joined
    void periodic.run()
    expect(begun).toHaveLength(2)

    let stopped = false
    const stopping = periodic.stop().then(() => {
      stopped = true
    })
    await vi.advanceTimersByTimeAsync(1000)
    expect([begun.length, stopped]).toEqual([2, false])
    begun[1]?.resolve()
    await stopping
    await vi.advanceTimersByTimeAsync(1000)
    expect(begun).toHaveLength(2)
  })

  it('says of each failure whether it is news, and goes on', async () => {
    const results = [true, false, false, true, false]
    const news: boolean[] = []
    const work = async () => {
      if (!results.shift()) throw new Error('no')
    }
    const periodic = new Periodic(10, work, (_error, isNews) => news.push(isNews))
    await vi.advanceTimersByTimeAsync(50)
    await periodic.stop()
    expect(news).toEqual([true, false, true])
  })
})
