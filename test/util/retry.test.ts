import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { exponential, retry } from '../../src/lib/util/retry.ts'

/** Work that fails a number of times with errors `1`, `2`, ..., and then resolves to the number of attempts. */
function failing(times: number) {
  let attempts = 0
  return async () => {
    attempts += 1
    if (attempts <= times) throw new Error(`${attempts}`)
    return attempts
  }
}

/** A timer that takes no time, and the delays it was called with. */
function fakeSleep() {
  const waits: number[] = []
  return { waits, sleep: async (ms: number) => void waits.push(ms) }
}

describe('retry', () => {
  it('returns the result of the first successful attempt, after the waits in order', async () => {
    const { waits, sleep } = fakeSleep()
    expect(await retry(failing(2), { delays: [10, 20, 30], sleep })).toBe(3)
    expect(waits).toEqual([10, 20])
  })

  it('throws the last error once there are no retries left', async () => {
    const { waits, sleep } = fakeSleep()
    await expect(retry(failing(9), { delays: [10, 20], sleep })).rejects.toThrow('3')
    expect(waits).toEqual([10, 20])
  })

  it('throws an error that is not retryable at once', async () => {
    const { waits, sleep } = fakeSleep()
    const isRetryable = (error: unknown) => (error as Error).message !== '2'
    await expect(retry(failing(9), { delays: [1, 1, 1], isRetryable, sleep })).rejects.toThrow('2')
    expect(waits).toEqual([1])
  })

  it('computes waits from the number of failures and the last error', async () => {
    const { waits, sleep } = fakeSleep()
    const delays = (failures: number, error: unknown) =>
      failures < 3 ? 100 * failures + Number((error as Error).message) : undefined
    await expect(retry(failing(9), { delays, sleep })).rejects.toThrow('3')
    expect(waits).toEqual([101, 202])
  })

  it('doubles waits up to the longest', () => {
    expect([1, 2, 3, 4, 5, 99].map(exponential(100, 1_000))).toEqual([100, 200, 400, 800, 1_000, 1_000])
  })

  it('spreads waits by the jitter', async () => {
    const { waits, sleep } = fakeSleep()
    await retry(failing(200), { delays: () => 100, jitter: 0.5, sleep })
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(50)
    expect(Math.max(...waits)).toBeLessThanOrEqual(150)
    expect(new Set(waits).size).toBeGreaterThan(100)
  })

  it('reports each failure before it waits', async () => {
    const { sleep } = fakeSleep()
    const reported: unknown[] = []
    const onRetry = (error: unknown, ms: number) => void reported.push([(error as Error).message, ms])
    await retry(failing(2), { delays: [10, 20], sleep, onRetry })
    expect(reported).toEqual([
      ['1', 10],
      ['2', 20],
    ])
  })

  it("ends a wait with the signal's reason, and leaves nothing on the signal", async () => {
    const stop = new AbortController()
    const reason = new Error('stopping')
    const waiting = retry(failing(9), { delays: [60_000], signal: stop.signal })
    setTimeout(() => stop.abort(reason), 20)
    await expect(waiting).rejects.toBe(reason)
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0)
  })

  it('attempts at least once, even if the signal is aborted already', async () => {
    expect(await retry(failing(0), { delays: [1], signal: AbortSignal.abort() })).toBe(1)
  })
})
