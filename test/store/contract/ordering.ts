import { describe, expect, it } from 'vitest'
import { failed, OTHER_SHA, push, request, SHA, type Subject } from './subject.ts'

const DAY_MS = 24 * 60 * 60 * 1000

export function ordering(subject: Subject): void {
  describe('a redelivery', () => {
    it('returns the build of the first delivery, even when that has ended', async () => {
      const asked = push('main')
      const { id } = await subject.accepted(asked)
      expect(await subject.store.accept(asked)).toMatchObject({ outcome: 'redelivered', build: { id } })
      await subject.ended(id, failed())
      const again = await subject.store.accept({ ...asked, ref: { kind: 'branch', name: 'other' } })
      expect(again).toEqual({ outcome: 'redelivered', queued: false, build: await subject.read(id) })
      expect(again.build.refs).toHaveLength(1)
    })

    it('returns the build that it joined', async () => {
      const { id } = await subject.accepted(push('main'))
      const joining = push('dev')
      await subject.accepted(joining)
      await subject.ended(id)
      expect(await subject.store.accept(joining)).toMatchObject({ outcome: 'redelivered', build: { id } })
    })

    it('is identified by any string', async () => {
      const odd = ['', ' ', "'; drop table builds; --", 'ünï 🐳', 'x'.repeat(10_000), '%', '__proto__']
      for (const [i, delivery] of odd.entries()) {
        const sha = i.toString(16).padStart(40, '0')
        const asked = push('main', { sha, source: { kind: 'webhook', delivery } })
        const { build, outcome } = await subject.store.accept(asked)
        expect(outcome).toBe('created')
        expect(await subject.store.accept(asked)).toEqual({ build, queued: false, outcome: 'redelivered' })
      }
    })

    it('creates one build when the same delivery arrives many times at once', async () => {
      const asked = push('main')
      const answers = await Promise.all(Array.from({ length: 20 }, () => subject.store.accept(asked)))
      const outcomes = answers.map(({ outcome }) => outcome).toSorted()
      expect(outcomes).toEqual(['created', ...Array.from({ length: 19 }, () => 'redelivered')])
    })

    it('is remembered for 30 days', async () => {
      const asked = push('main')
      await subject.ended((await subject.accepted(asked)).id)
      subject.clock += 29.9 * DAY_MS
      expect((await subject.store.accept(asked)).outcome).toBe('redelivered')
      subject.clock += 0.2 * DAY_MS
      await subject.reopen() // it looks for older ones once an hour
      expect((await subject.store.accept(asked)).outcome).toBe('created')
    })
  })

  describe('the position of a push', () => {
    const main = { kind: 'branch', name: 'main' } as const

    it('is the reserved one if the request has one', async () => {
      const sequence = await subject.store.reserveSequence()
      const newer = await subject.accepted(push('main', { sha: OTHER_SHA }))
      const build = await subject.accepted(request({ ref: main, sequence }))
      expect(build.refs).toEqual([{ ...main, sequence }])
      expect(build.pushOrder).toBe(sequence)
      expect(build.sequence).toBeGreaterThan(newer.sequence)
    })

    it('is that of the last push when the same commit of the same ref is requested again', async () => {
      const pushed = await subject.accepted(push('main'))
      await subject.ended(pushed.id)
      await subject.accepted(push('main', { sha: OTHER_SHA }))
      const rebuilt = await subject.accepted(request({ ref: main, repository: 'ACME/app' }))
      expect(rebuilt.refs).toEqual(pushed.refs)
      expect(rebuilt.pushOrder).toBe(pushed.pushOrder)
      expect(rebuilt.sequence).toBeGreaterThan(pushed.sequence)
    })

    it('is new for a ref that was never pushed with this commit', async () => {
      const pushed = await subject.accepted(push('main'))
      await subject.ended(pushed.id)
      const build = await subject.accepted(request({ ref: { kind: 'branch', name: 'dev' } }))
      expect(build.pushOrder).toBe(build.sequence)
    })

    it('is that of the earlier build when only the sha is requested', async () => {
      const pushed = await subject.accepted(push('main'))
      await subject.ended(pushed.id)
      await subject.accepted(push('main', { sha: OTHER_SHA }))
      expect((await subject.accepted(request())).pushOrder).toBe(pushed.pushOrder)
    })

    it('is always new for a webhook: a branch can be pushed back to an older commit', async () => {
      const pushed = await subject.accepted(push('main'))
      await subject.ended(pushed.id)
      const other = await subject.accepted(push('main', { sha: OTHER_SHA }))
      expect((await subject.accepted(push('main'))).pushOrder).toBeGreaterThan(other.pushOrder)
    })

    it('follows the ref that joins a build of the sha alone', async () => {
      await subject.accepted(request())
      const joined = await subject.accepted(push('main'))
      expect(joined.pushOrder).toBe(joined.refs[0]?.sequence)
      expect(joined.pushOrder).toBeGreaterThan(joined.sequence)
    })
  })

  describe('reading', () => {
    it('returns null for any string that is not an id', async () => {
      const strings = ['', '\0', '../..', "' or 1=1 --", 'ünï 🐳', '\ud800', 'x'.repeat(100_000)]
      for (const id of [...strings, '00000000-0000-4000-8000-000000000000']) {
        expect(await subject.store.get(id)).toBeNull()
        expect(await subject.store.claim(id)).toBeNull()
        expect(await subject.store.artifact(id)).toBeNull()
        expect(await subject.store.artifactOf(id)).toBeNull()
      }
    })

    it('finds the newest build of a commit', async () => {
      expect(await subject.store.newest('acme/app', SHA)).toBeNull()
      const first = await subject.accepted(push('main'))
      await subject.ended(first.id)
      const second = await subject.accepted(push('main'))
      expect(await subject.store.newest('acme/app', SHA)).toEqual(second)
      expect(await subject.store.newest('acme/other', SHA)).toBeNull()
      expect(await subject.store.newest('acme/app', OTHER_SHA)).toBeNull()
    })

    it('lists unfinished builds, oldest first', async () => {
      const [a, b, c] = [
        await subject.accepted(push('main', { sha: '1'.repeat(40) })),
        await subject.accepted(push('main', { sha: '2'.repeat(40) })),
        await subject.accepted(push('main', { sha: '3'.repeat(40) })),
      ]
      await subject.accepted(push('dev', { sha: '1'.repeat(40) }))
      await subject.ended(b.id)
      await subject.claimed(c.id)
      expect(await subject.store.unfinished()).toEqual([await subject.read(a.id), await subject.read(c.id)])
    })
  })
}
