import { describe, expect, it } from 'vitest'
import type { NewNotification } from '../../../../src/lib/store/notifications.ts'
import { failed, push, request, type Subject, UUID } from '../subject.ts'

const DEPLOY: NewNotification = {
  target: 'one',
  origin: 'https://deploy.example.com',
  format: 'conveyor',
  tag: null,
}
const OK = { status: 200, answer: 'fine \0 \ud800', error: null, tookMs: 12 }
const NO = { status: 500, answer: null, error: 'HTTP 500', tookMs: 3 }

/** Webhooks that are sent when builds end, and why builds are requested. */
export function outbound(subject: Subject): void {
  describe('notifications', () => {
    const ended = async (sha = 'a'.repeat(40)) => {
      const { id } = await subject.accepted(push('main', { sha }))
      await subject.ended(id)
      return id
    }
    const made = async (drafts = [DEPLOY], tries = 5) => {
      const id = await ended()
      await subject.store.notifications.make(id, drafts, tries)
      return id
    }

    it('are to be made for every build that has ended, however it did, and for no other', async () => {
      const { notifications } = subject.store
      const succeeds = await subject.accepted(push('main', { sha: '1'.repeat(40) }))
      const fails = await subject.accepted(push('main', { sha: '2'.repeat(40) }))
      const waits = await subject.accepted(push('main', { sha: '3'.repeat(40) }))
      const stops = await subject.accepted(push('main', { sha: '4'.repeat(40) }))
      const runs = await subject.accepted(push('main', { sha: '5'.repeat(40) }))
      await subject.claimed(runs.id)
      expect(await notifications.ended(9)).toEqual([])
      await subject.ended(succeeds.id)
      subject.clock += 1000
      await subject.ended(fails.id, failed())
      subject.clock += 1000
      await subject.store.requestCancel(waits.id, 'ada')
      await subject.claimed(stops.id)
      await subject.store.requestCancel(stops.id, 'ada')
      expect(await notifications.ended(9)).toEqual([succeeds.id, fails.id, waits.id])
      subject.clock += 1000
      await subject.store.finish(stops.id, 1, 1, failed('cancelled by ada', 'cancelled'))
      await subject.reopen()
      const again = subject.store.notifications
      expect(await again.ended(9)).toEqual([succeeds.id, fails.id, waits.id, stops.id])
      expect(await again.ended(2)).toEqual([succeeds.id, fails.id])
      await again.make(succeeds.id, [], 5)
      expect(await again.ended(9)).toEqual([fails.id, waits.id, stops.id])
      expect(await again.ofBuild(succeeds.id)).toEqual([])
    })

    it('are made once, by whichever server is first, and survive a restart', async () => {
      const id = await ended()
      const tagged = { ...DEPLOY, target: 'two', format: 'dockerhub', tag: 'main' } as const
      await Promise.all([1, 2, 3].map(() => subject.store.notifications.make(id, [DEPLOY, tagged], 5)))
      await subject.reopen()
      const { notifications } = subject.store
      const all = await notifications.ofBuild(id)
      const fresh = {
        ...{ id: expect.stringMatching(UUID), buildId: id, state: 'pending', attempts: 0, triesLeft: 5 },
        ...{ status: null, answer: null, error: null, tookMs: null, attemptedAt: null },
        ...{ dueAt: '2030-01-02T03:04:05.678Z', createdAt: '2030-01-02T03:04:05.678Z' },
      }
      expect(all).toEqual([
        { ...fresh, ...DEPLOY },
        { ...fresh, ...tagged },
      ])
      expect(await notifications.get(all[1]?.id ?? '')).toEqual(all[1])
      expect(await notifications.get("no'id\0")).toBeNull()
      expect(await notifications.ofBuild("no'id\0")).toEqual([])
      await notifications.make("no'id\0", [DEPLOY], 5)
      expect((await notifications.dueTargets()).sort()).toEqual(['one', 'two'])
    })

    it('are claimed by one server at a time, and settled by it', async () => {
      const id = await made([DEPLOY, { ...DEPLOY, target: 'two' }])
      const { notifications } = subject.store
      const claims = await Promise.all([1, 2, 3, 4].map(() => notifications.claim('one')))
      const [claim, ...others] = claims.filter((one) => one !== null)
      expect(others).toEqual([])
      expect(claim).toMatchObject({ target: 'one', attempts: 1, triesLeft: 4, state: 'pending' })
      expect(await notifications.dueTargets()).toEqual(['two'])
      if (!claim) return
      await notifications.settle(claim, OK)
      const stored = { status: 200, answer: 'fine \ufffd \ufffd', tookMs: 12, dueAt: null }
      expect((await notifications.ofBuild(id))[0]).toMatchObject({ state: 'delivered', ...stored })
      // Settled once.
      await notifications.settle(claim, NO)
      expect((await notifications.ofBuild(id))[0]).toMatchObject({ state: 'delivered', error: null })
    })

    it('are sent again after failures, when they are due, until no try is left', async () => {
      await made([DEPLOY], 2)
      const { notifications } = subject.store
      const first = await notifications.claim('one')
      if (!first) throw new Error('nothing is due')
      await notifications.settle(first, { ...NO, retryInS: 10 })
      expect(await notifications.get(first.id)).toMatchObject({
        ...{ state: 'pending', attempts: 1, triesLeft: 1, status: 500, error: 'HTTP 500' },
        dueAt: '2030-01-02T03:04:15.678Z',
      })
      subject.clock += 9000
      expect(await notifications.claim('one')).toBeNull()
      subject.clock += 1000
      const second = await notifications.claim('one')
      expect(second).toMatchObject({ attempts: 2, triesLeft: 0 })
      await notifications.settle(second ?? first, { ...NO, retryInS: 10 })
      expect(await notifications.get(first.id)).toMatchObject({ state: 'failed', attempts: 2, dueAt: null })
      subject.clock += 3_600_000
      expect(await notifications.dueTargets()).toEqual([])
    })

    it('of a server that died are due again after a minute; a try that was lost counts', async () => {
      await made([DEPLOY], 2)
      const { notifications } = subject.store
      const lost = await notifications.claim('one')
      subject.clock += 59_000
      expect(await notifications.claim('one')).toBeNull()
      subject.clock += 1000
      const next = await notifications.claim('one')
      expect(next).toMatchObject({ id: lost?.id, attempts: 2, triesLeft: 0 })
      // The first server was only slow: its answer no longer counts.
      if (lost) await notifications.settle(lost, OK)
      expect(await notifications.get(lost?.id ?? '')).toMatchObject({ state: 'pending', status: null })
      subject.clock += 60_000
      expect(await notifications.claim('one')).toBeNull()
      expect(await notifications.get(lost?.id ?? '')).toMatchObject({
        state: 'failed',
        error: 'the server ended during the last try',
      })
    })

    it('can be sent again, unless they are about to be', async () => {
      const id = await made([DEPLOY], 1)
      const { notifications } = subject.store
      const [one] = await notifications.ofBuild(id)
      expect(await notifications.redeliver(one?.id ?? '', 5)).toBeNull()
      expect(await notifications.redeliver("no'id\0", 5)).toBeNull()
      const claim = await notifications.claim('one')
      if (claim) await notifications.settle(claim, OK)
      subject.clock += 1000
      expect(await notifications.redeliver(one?.id ?? '', 5)).toMatchObject({
        ...{ id: one?.id, state: 'pending', attempts: 1, triesLeft: 5 },
        dueAt: '2030-01-02T03:04:06.678Z',
      })
      expect(await notifications.claim('one')).toMatchObject({ id: one?.id, attempts: 2 })
    })

    it('are forgotten after a month, and builds that nobody made some for after three days', async () => {
      const id = await made()
      const unsent = await ended('b'.repeat(40))
      await subject.reopen()
      subject.clock += 3 * 24 * 3_600_000 + 1000
      await subject.accepted(push('main', { sha: 'c'.repeat(40) }))
      expect(await subject.store.notifications.ended(9)).toEqual([])
      expect(await subject.store.notifications.ofBuild(id)).toHaveLength(1)
      subject.clock += 28 * 24 * 3_600_000
      await subject.reopen()
      await subject.accepted(push('main', { sha: 'd'.repeat(40) }))
      expect(await subject.store.notifications.ofBuild(id)).toEqual([])
      expect(await subject.store.get(unsent)).not.toBeNull()
    })
  })

  describe('the reason of a build', () => {
    it('is that of the request which created it', async () => {
      const reason = 'base image node:24 moved'
      const own = await subject.accepted(request({ source: { kind: 'server' }, reason }))
      expect(await subject.read(own.id)).toMatchObject({ source: 'server', reason })
      const { reason: joined } = await subject.accepted(push('main'))
      expect(joined).toBe(reason)
      const pushed = await subject.accepted(push('main', { sha: 'b'.repeat(40) }))
      const later = request({ sha: 'b'.repeat(40), source: { kind: 'server' }, reason })
      expect((await subject.accepted(later)).id).toBe(pushed.id)
      expect(await subject.read(pushed.id)).not.toHaveProperty('reason')
    })
  })
}
