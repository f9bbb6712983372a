import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { returnSpareHeap } from '../../src/lib/util/lifecycle.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** In megabytes. */
const heap = () => process.memoryUsage().heapTotal / 1e6

/** Makes the heap grow by garbage. */
function grow(): number {
  let kept: object[] | null = Array.from({ length: 1_000_000 }, (_, number) => ({
    number,
    text: `${number}`,
  }))
  const grown = heap()
  kept = kept.length > 0 ? null : kept
  return grown
}

test('the heap shrinks some seconds after the start', () => {
  returnSpareHeap()
  const before = grow()
  vi.advanceTimersByTime(9_000)
  vi.advanceTimersByTime(2_000)
  expect(before - heap()).toBeGreaterThan(30)
})

test('not if the process ends before', () => {
  const callOff = returnSpareHeap()
  callOff()
  expect(vi.getTimerCount()).toBe(0)
})
