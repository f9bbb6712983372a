import { describe, expect, it } from 'vitest'
import { OTHER_SHA, push, request, type Subject } from '../subject.ts'

/** Requests with an idempotency key. */
export function idempotency(subject: Subject): void {
  describe('a request with an idempotency key', () => {
    const key = { key: 'k', body: 'b' }
    const hours = (count: number) => count * 3600_000

    it('gets the same build again within a day, also after a restart', async () => {
      expect(await subject.store.repeated(key)).toBeNull()
      const first = await subject.store.accept(request(), key)
      expect(first.outcome).toBe('created')
      const ended = await subject.ended(first.build.id)
      expect(await subject.store.accept(request(), key)).toMatchObject({
        outcome: 'redelivered',
        build: { id: ended.id },
      })
      subject.clock += hours(24)
      await subject.reopen()
      expect((await subject.store.accept(request(), key)).build).toEqual(ended)
      expect(await subject.store.repeated(key)).toEqual(ended)

      subject.clock += 1
      expect(await subject.store.repeated(key)).toBeNull()
      const next = await subject.store.accept(request(), key)
      expect(next.outcome).toBe('created')
      expect((await subject.store.accept(request(), key)).build.id).toBe(next.build.id)
    })

    it('is rejected if the key belongs to another one, and nothing is built', async () => {
      const { build } = await subject.store.accept(request(), key)
      const other = { ...key, body: 'c' }
      const rejected = { kind: 'invalid', field: 'Idempotency-Key' }
      await expect(subject.store.accept(request({ sha: OTHER_SHA }), other)).rejects.toMatchObject(rejected)
      await expect(subject.store.repeated(other)).rejects.toMatchObject(rejected)
      await expect(subject.store.keep(other, build.id)).rejects.toMatchObject(rejected)
      expect(await subject.store.newest('acme/app', OTHER_SHA)).toBeNull()
      expect((await subject.store.list({}, { limit: 5 })).builds).toHaveLength(1)
    })

    it('makes one build, however many arrive at once', async () => {
      const all = await Promise.all(
        // Each would otherwise be a build of its own.
        Array.from({ length: 20 }, (_, i) =>
          subject.store.accept(request({ sha: i.toString(16).padStart(40, '0') }), key),
        ),
      )
      expect(new Set(all.map(({ build }) => build.id)).size).toBe(1)
      expect(all.filter(({ outcome }) => outcome === 'created')).toHaveLength(1)
      expect((await subject.store.list({}, { limit: 5 })).builds).toHaveLength(1)
    })

    it('does not disturb others at the same time when it is rejected', async () => {
      await subject.store.accept(request(), key)
      const all = await Promise.allSettled([
        subject.store.accept(push('main', { sha: OTHER_SHA })),
        subject.store.accept(request(), { ...key, body: 'c' }),
        subject.store.accept(request(), key),
      ])
      expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    })

    it('can name a build that was there before', async () => {
      const one = await subject.accepted(request())
      const two = await subject.accepted(request({ sha: OTHER_SHA }))
      await subject.store.keep(key, one.id)
      await subject.store.keep(key, two.id)
      expect(await subject.store.repeated(key)).toEqual(one)
      expect(await subject.store.accept(request({ sha: OTHER_SHA }), key)).toMatchObject({
        build: { id: one.id },
      })
    })
  })
}
