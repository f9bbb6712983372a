import { setTimeout as sleep } from 'node:timers/promises'

/** The result of some work; null if it fails, or takes longer than `ms` milliseconds. */
export async function within<T>(ms: number, work: () => Promise<T>): Promise<T | null> {
  const timer = new AbortController()
  const late = sleep(ms, null, { signal: timer.signal }).catch(() => null)
  try {
    return await Promise.race([work(), late])
  } catch {
    return null
  } finally {
    timer.abort()
  }
}
