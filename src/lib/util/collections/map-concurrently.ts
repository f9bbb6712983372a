import { Semaphore } from '../locks/semaphore.ts'

/** Maps items in their order, working on at most `limit` of them at a time. Rejects with the first error. */
export function mapConcurrently<T, R>(items: T[], limit: number, map: (item: T) => Promise<R>): Promise<R[]> {
  const semaphore = new Semaphore(limit)
  return Promise.all(items.map((item) => semaphore.run(() => map(item))))
}
