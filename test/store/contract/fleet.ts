import { describe, expect, it } from 'vitest'
import type { WorkerInfo } from '../../../src/lib/store/fleet.ts'
import { push, type Subject } from './subject.ts'

const WORKER: Omit<WorkerInfo, 'seenAt'> = {
  id: 'b7d1e8f6-0000-4000-8000-000000000001',
  host: 'worker-1',
  pid: 42,
  version: '1.2.3',
  slots: 2,
  builds: ['one'],
  warm: ['acme/app'],
  startedAt: '2030-01-02T03:00:00.000Z',
}

/** Who runs builds, and what waits for them. */
export function fleet(subject: Subject): void {
  const sha = (number: number) => number.toString(16).padStart(40, '0')

  describe('workers', () => {
    it('are listed as they last reported themselves, by host and process', async () => {
      const { workers } = subject.store
      expect(await workers.list()).toEqual([])
      await workers.seen({ ...WORKER, id: 'c', host: 'worker-2', pid: 1 })
      await workers.seen({ ...WORKER, id: 'b', pid: 100 })
      await workers.seen(WORKER)
      await workers.seen({ ...WORKER, builds: ['two', 'three'], warm: [] })
      const all = await workers.list()
      expect(all.map(({ id }) => id)).toEqual([WORKER.id, 'b', 'c'])
      const [first] = all
      expect(first).toEqual({ ...WORKER, builds: ['two', 'three'], warm: [], seenAt: expect.any(String) })
      expect(new Date(first?.seenAt ?? '').toISOString()).toBe(first?.seenAt)
      await subject.reopen()
      expect(await subject.store.workers.list()).toEqual(all)
    })

    it('that end are gone at once', async () => {
      await subject.store.workers.seen(WORKER)
      await subject.store.workers.gone(WORKER.id)
      await subject.store.workers.gone('unknown')
      expect(await subject.store.workers.list()).toEqual([])
    })
  })

  describe('what waits', () => {
    it('is listed oldest first, with its position, page by page', async () => {
      const { store } = subject
      expect(await store.waiting({ limit: 1 })).toEqual({ pending: 0, building: 0, builds: [], next: null })
      const ids: string[] = []
      for (const number of [1, 2, 3, 4]) {
        ids.push((await subject.accepted(push(`branch-${number}`, { sha: sha(number) }))).id)
      }
      await subject.claimed(ids[0] ?? '')
      await subject.accepted(push('again', { sha: sha(2) }))

      const first = await store.waiting({ limit: 2 })
      expect(first).toMatchObject({ pending: 3, building: 1, next: expect.any(String) })
      expect(first.builds).toEqual([
        { build: await subject.read(ids[1] ?? ''), position: 1, retryAt: null },
        { build: await subject.read(ids[2] ?? ''), position: 2, retryAt: null },
      ])
      const second = await store.waiting({ limit: 2, cursor: first.next ?? '' })
      expect(second.builds.map(({ build, position }) => [build.id, position])).toEqual([[ids[3], 3]])
      expect(second.next).toBeNull()
      await expect(store.waiting({ limit: 2, cursor: 'x' })).rejects.toMatchObject({ field: 'cursor' })
    })

    it('shows a reader only their repositories, at the true positions', async () => {
      const { store } = subject
      await subject.accepted(push('main', { repository: 'acme/a', sha: sha(1) }))
      const { id } = await subject.accepted(push('main', { repository: 'Other/b', sha: sha(2) }))
      const page = await store.waiting({ limit: 5, allowed: ['other/*'] })
      expect(page.builds.map(({ build, position }) => [build.id, position])).toEqual([[id, 2]])
      expect(page.pending).toBe(2)
      for (const allowed of [[], ['nobody/*']]) {
        expect((await store.waiting({ limit: 5, allowed })).builds).toEqual([])
      }
    })

    it('says when a build is tried again, until it runs and is given back', async () => {
      const { store } = subject
      const { id } = await subject.accepted(push('main'))
      const retryAt = async () => (await store.waiting({ limit: 5 })).builds[0]?.retryAt
      const first = await subject.claimed(id)
      const from = Date.now()
      await store.release(id, first.attempt, { retryIn: 3600 })
      const at = Date.parse((await retryAt()) ?? '')
      // By the clock of the test, or that of the database.
      const since = Math.min(Math.abs(at - subject.clock), Math.abs(at - from))
      expect(Math.abs(since - 3_600_000)).toBeLessThan(120_000)
      const second = await subject.claimed(id)
      await store.release(id, second.attempt, { counts: false })
      expect(await retryAt()).toBeNull()
    })
  })

  describe('a lease', () => {
    it('belongs to one holder until it ends, is dropped, or is extended', async () => {
      const { leases } = subject.store
      expect(await leases.take('compare', 'one', 60)).toBe(true)
      expect(await leases.take('compare', 'two', 60)).toBe(false)
      expect(await leases.take('other', 'two', 60)).toBe(true)
      expect(await leases.take('compare', 'one', 60)).toBe(true)
      await leases.drop('compare', 'two')
      expect(await leases.take('compare', 'two', 60)).toBe(false)
      await leases.drop('compare', 'one')
      expect(await leases.take('compare', 'two', -1)).toBe(true)
      expect(await leases.take('compare', 'one', 60)).toBe(true)
      expect(await leases.take('compare', 'two', 60)).toBe(false)
    })

    it('for hours is a pause, also for the next process', async () => {
      expect(await subject.store.leases.take('base images', 'one', 3600)).toBe(true)
      await subject.reopen()
      const { leases } = subject.store
      expect(await leases.take('base images', 'two', 3600)).toBe(false)
      expect(await leases.take('compare', 'two', 60)).toBe(true)
    })

    it('is taken by one of many that ask at the same time', async () => {
      const { leases } = subject.store
      const holders = Array.from({ length: 20 }, (_, number) => `server-${number}`)
      const taken = await Promise.all(holders.map((holder) => leases.take('compare', holder, 60)))
      expect(taken.filter(Boolean)).toHaveLength(1)
    })
  })
}
