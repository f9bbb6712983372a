import { expect, test, vi } from 'vitest'
import { retryAfterMs } from '../../src/lib/net/retry-after.ts'

test.each([
  [undefined, undefined],
  ['0', 0],
  ['120', 120_000],
  // The example of RFC 9110, section 10.2.3.
  ['Fri, 31 Dec 1999 23:59:59 GMT', 59_000],
  ['Fri, 31 Dec 1999 23:58:00 GMT', 0],
  ['', undefined],
  ['soon', undefined],
  ['9'.repeat(400), undefined],
])('Retry-After: %s is %s ms', (value, ms) => {
  vi.useFakeTimers({ now: Date.UTC(1999, 11, 31, 23, 59), toFake: ['Date'] })
  try {
    expect(retryAfterMs(value)).toBe(ms)
  } finally {
    vi.useRealTimers()
  }
})
