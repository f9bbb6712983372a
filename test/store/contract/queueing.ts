import { describe, expect, it } from 'vitest'
import { push, request, SHA, type Subject } from './subject.ts'

/** Behavior that a queue on another machine requires. */
export function queueing(subject: Subject): void {
  describe('queueing', () => {
    it('is recorded, even for another request of the same build', async () => {
      const first = await subject.store.accept(push('main'))
      expect(first.queued).toBe(false)
      expect((await subject.store.accept(push('main'))).queued).toBe(false)
      await subject.store.markQueued(first.build.id)
      expect(await subject.store.accept(push('other'))).toMatchObject({ outcome: 'joined', queued: true })
      await subject.reopen()
      expect(await subject.store.unqueued(0)).toEqual([])
    })

    it('is overdue for builds that are pending, not queued and old enough, oldest first', async () => {
      const ids: string[] = []
      for (const digit of ['1', '2', '3', '4']) {
        ids.push((await subject.accepted(request({ sha: digit.repeat(40) }))).id)
      }
      const [one = '', two = '', three = '', four = ''] = ids
      await subject.store.markQueued(two)
      await subject.store.claim(three)
      const overdue = async (seconds: number) => (await subject.store.unqueued(seconds)).map(({ id }) => id)
      expect(await overdue(0)).toEqual([one, four])
      expect(await overdue(60)).toEqual([])
      subject.clock += 60_000
      expect(await overdue(60)).toEqual([one, four])
    })
  })

  describe('a build is idle', () => {
    const idle = async () => (await subject.store.idle(3600)).map(({ id }) => id)
    const later = (seconds: number) => {
      subject.clock += seconds * 1000
    }
    /** A build is idle after so many seconds, and not one earlier. */
    const expectIdleAfter = async (seconds: number, id: string) => {
      later(seconds - 1)
      expect(await idle()).toEqual([])
      later(1)
      expect(await idle()).toEqual([id])
    }

    it('once it has waited that long, even if a queue has it, but not before it may be tried again', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      await subject.store.markQueued(id)
      await expectIdleAfter(3600, id)
      await subject.store.claimFor(id, 30)
      await subject.store.release(id, 1, { retryIn: 600 })
      await expectIdleAfter(600 + 3600, id)
    })

    it('while it is building, once nobody has held it that long', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      await subject.store.claimFor(id, 30)
      later(3600)
      await subject.store.hold(id, 1, 30)
      expect(await idle()).toEqual([])
      await expectIdleAfter(30 + 3600, id)
    })

    it('while it is building under a lease of the queue, once it was started that long ago', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      later(3600)
      await subject.store.claim(id)
      await expectIdleAfter(3600, id)
    })

    it('no longer when it has ended; the oldest is first', async () => {
      const [first, second, third] = [
        await subject.accepted(request({ sha: '1'.repeat(40) })),
        await subject.accepted(request({ sha: '2'.repeat(40) })),
        await subject.accepted(request({ sha: '3'.repeat(40) })),
      ]
      await subject.ended(second.id)
      later(3600)
      expect(await idle()).toEqual([first.id, third.id])
    })
  })

  describe('a build that is claimed for a limited time', () => {
    it('is held until then, and can be claimed by another worker afterwards', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      expect(await subject.store.claimFor(id, 30)).toMatchObject({ state: 'building', attempt: 1 })
      expect(await subject.store.claimFor(id, 30)).toBe('held')
      subject.clock += 29_000
      expect(await subject.store.claimFor(id, 30)).toBe('held')
      subject.clock += 1000
      expect(await subject.store.claimFor(id, 30)).toMatchObject({ attempt: 2 })
    })

    it('can be held longer by its worker only', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      await subject.store.claimFor(id, 30)
      subject.clock += 20_000
      expect(await subject.store.hold(id, 1, 30)).toBe(true)
      expect(await subject.store.hold(id, 2, 300)).toBe(false)
      subject.clock += 20_000
      expect(await subject.store.claimFor(id, 30)).toBe('held')
      subject.clock += 10_000
      expect(await subject.store.claimFor(id, 30)).toMatchObject({ attempt: 2 })
      expect(await subject.store.hold(id, 1, 30)).toBe(false)
    })

    it('is free once it is released, and for an unconditional claim', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      await subject.store.claimFor(id, 30)
      await subject.store.release(id, 1)
      expect(await subject.store.claimFor(id, 30)).toMatchObject({ attempt: 2 })
      expect(await subject.store.claim(id)).toMatchObject({ attempt: 3 })
      expect(await subject.store.claimFor(id, 30)).toMatchObject({ attempt: 4 })
    })

    it('is not held when it has ended, or never existed', async () => {
      const { id } = await subject.accepted(request({ sha: SHA }))
      await subject.ended(id)
      expect(await subject.store.claimFor(id, 30)).toBeNull()
      for (const other of ['', 'x', '00000000-0000-0000-0000-000000000000']) {
        expect(await subject.store.claimFor(other, 30)).toBeNull()
      }
    })
  })
}
