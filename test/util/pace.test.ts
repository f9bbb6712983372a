import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { Pace } from '../../src/lib/util/pace.ts'
import { threadTime } from '../support/timing/thread-time.ts'

/** Computes for so many milliseconds. */
function compute(ms: number): void {
  const spent = threadTime()
  while (spent() < ms);
}

/** The longest sequence of items between two turns of the event loop. */
async function longestSequence(work: (each: () => void) => Promise<unknown>): Promise<number> {
  let [now, longest, isOver] = [0, 0, false]
  const turns = (async () => {
    for (; !isOver; now = 0) await setImmediate()
  })()
  await work(() => {
    now += 1
    longest = Math.max(longest, now)
  })
  isOver = true
  await turns
  return longest
}

const NUMBERS = Array.from({ length: 100 }, (_, at) => at)

describe('expensive items', () => {
  test('forEach yields after a few of them', async () => {
    const longest = await longestSequence((count) =>
      new Pace().forEach(NUMBERS, () => {
        compute(2)
        count()
      }),
    )
    expect(longest).toBeLessThanOrEqual(16)
  })

  test('filter does, and keeps the order', async () => {
    let kept: number[] = []
    const longest = await longestSequence(async (count) => {
      kept = await new Pace().filter(NUMBERS, (number) => {
        compute(2)
        count()
        return number % 2 === 1
      })
    })
    expect(kept).toEqual(NUMBERS.filter((number) => number % 2 === 1))
    expect(longest).toBeLessThanOrEqual(16)
  })
})

test('the signal ends the work at the next rest', async () => {
  const ends = new AbortController()
  let done = 0
  const work = new Pace(ends.signal).forEach(NUMBERS, () => {
    compute(2)
    done += 1
    if (done === 10) ends.abort(new Error('cancelled'))
  })
  await expect(work).rejects.toThrow('cancelled')
  expect(done).toBeLessThan(NUMBERS.length)
})

test('sorted is stable', async () => {
  const items = Array.from({ length: 10_000 }, (_, at) => ({ key: (at * 7919) % 100, at }))
  const byKey = (a: { key: number }, b: { key: number }) => a.key - b.key
  expect(await new Pace().sorted(items, byKey)).toEqual(items.toSorted(byKey))
})
