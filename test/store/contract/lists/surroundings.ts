import { describe, expect, it } from 'vitest'
import { failed, push, request, type Subject } from '../subject.ts'
import { shaOf } from './builds.ts'

/** Lists of repositories, their refs, and deliveries that built nothing. */
export function surroundings(subject: Subject): void {
  let number = 0
  const built = (repository: string, branch: string) => {
    number += 1
    return subject.accepted(push(branch, { sha: shaOf(number), repository }))
  }

  describe('repositories', () => {
    it('are listed with their last build, the newest first', async () => {
      await built('acme/a', 'main')
      await built('acme/b', 'main')
      const a = await built('Acme/A', 'dev')
      const c = await subject.accepted(request({ repository: 'other/c', sha: shaOf(99) }))
      const ended = await subject.ended(c.id)
      const all = await subject.store.repositories({ limit: 10 })
      expect(all.repositories.map(({ name }) => name)).toEqual(['other/c', 'Acme/A', 'acme/b'])
      expect(all.repositories[0]?.last).toEqual({ build: ended, image: expect.stringContaining('@sha256:') })
      expect(all.repositories[1]?.last.build).toEqual(a)
      expect(all.next).toBeNull()

      const first = await subject.store.repositories({ limit: 2 })
      expect(first.repositories).toHaveLength(2)
      const second = await subject.store.repositories({ limit: 2, cursor: first.next ?? '' })
      expect(second.repositories.map(({ name }) => name)).toEqual(['acme/b'])
      expect(second.next).toBeNull()
      const names = async (allowed: string[]) =>
        (await subject.store.repositories({ limit: 10, allowed })).repositories.map(({ name }) => name)
      expect(await names(['acme/*'])).toEqual(['Acme/A', 'acme/b'])
      expect(await names([])).toEqual([])
      await expect(subject.store.repositories({ limit: 2, cursor: 'x' })).rejects.toMatchObject({
        kind: 'invalid',
        field: 'cursor',
      })
    })
  })

  describe('branches', () => {
    it('are listed with their last build and newest image, the one built last first', async () => {
      const one = await built('acme/a', 'main')
      await subject.ended(one.id)
      const two = await built('Acme/a', 'main')
      const broken = await subject.ended(two.id, failed())
      const tag = await subject.accepted(
        push('v1', { repository: 'acme/a', sha: shaOf(77), ref: { kind: 'tag', name: 'main' } }),
      )
      await built('acme/b', 'other')
      const image = `registry.test/acme/app@sha256:${'0'.repeat(64)}`
      expect(await subject.store.branches('ACME/a', 10)).toEqual([
        { ref: { kind: 'tag', name: 'main' }, last: { build: tag, image: null }, image: null },
        { ref: { kind: 'branch', name: 'main' }, last: { build: broken, image: null }, image },
      ])
      expect(await subject.store.branches('acme/a', 1)).toHaveLength(1)
      expect(await subject.store.branches('acme/none', 10)).toEqual([])
    })

    it('of merge queues are gone within minutes, and so not listed', async () => {
      const queue = `gh-readonly-queue/main/pr-7-${shaOf(1)}`
      await built('acme/a', queue)
      await built('acme/a', 'main')
      const refs = await subject.store.branches('acme/a', 10)
      expect(refs.map(({ ref }) => ref.name)).toEqual(['main'])
    })

    it('that share a last build are all there', async () => {
      const { id } = await built('acme/a', 'main')
      await subject.accepted(push('dev', { repository: 'acme/a', sha: shaOf(number) }))
      const refs = await subject.store.branches('acme/a', 10)
      expect(refs.map(({ ref, last }) => [ref.name, last.build.id])).toEqual([
        ['dev', id],
        ['main', id],
      ])
    })
  })

  describe('ignored deliveries', () => {
    const delivery = (id: string, change: { repository?: string | null; reason?: string } = {}) => ({
      ...{ id, event: 'push', repository: 'acme/app', ref: 'refs/heads/main', reason: 'no', ...change },
    })
    const ids = async (rest: { repository?: string; allowed?: string[] } = {}) =>
      (await subject.store.ignored.list({ limit: 100, ...rest })).deliveries.map(({ id }) => id)

    it('are listed newest first, each once', async () => {
      await subject.store.ignored.add(delivery('1'))
      await subject.store.ignored.add(delivery('2', { repository: 'Acme/Web' }))
      await subject.store.ignored.add(delivery('1', { reason: 'another' }))
      await subject.store.ignored.add({ id: '3', event: 'ping', repository: null, ref: null, reason: 'pong' })
      const at = '2030-01-02T03:04:05.678Z'
      expect(await subject.store.ignored.list({ limit: 2 })).toEqual({
        deliveries: [
          { id: '3', event: 'ping', repository: null, ref: null, reason: 'pong', at },
          { ...delivery('2', { repository: 'Acme/Web' }), at },
        ],
        next: expect.any(String),
      })
      const { next } = await subject.store.ignored.list({ limit: 2 })
      expect(await subject.store.ignored.list({ limit: 2, cursor: next ?? '' })).toEqual({
        deliveries: [{ ...delivery('1'), at }],
        next: null,
      })
      expect(await ids({ repository: 'acme/WEB' })).toEqual(['2'])
      expect(await ids({ allowed: ['acme/*'] })).toEqual(['2', '1'])
      expect(await ids({ allowed: [] })).toEqual([])
      await expect(
        subject.store.ignored.list({ limit: 2, repository: 'acme/app', cursor: next ?? '' }),
      ).rejects.toMatchObject({ kind: 'invalid', field: 'cursor' })
    })

    it('added at the same time by several are one', async () => {
      await Promise.all(Array.from({ length: 8 }, () => subject.store.ignored.add(delivery('1'))))
      expect(await ids()).toEqual(['1'])
    })

    it('are kept for 30 days', async () => {
      await subject.store.ignored.add(delivery('1'))
      subject.clock += 29 * 24 * 3600_000
      await subject.store.ignored.add(delivery('2'))
      expect(await ids()).toEqual(['2', '1'])
      subject.clock += 2 * 24 * 3600_000
      expect(await ids()).toEqual(['2'])
      // It is gone: its id is free again.
      await subject.store.ignored.add(delivery('3'))
      await subject.store.ignored.add(delivery('1'))
      expect(await ids()).toEqual(['1', '3', '2'])
    })

    it('keep odd texts, short and on one line', async () => {
      await subject.store.ignored.add(delivery('1', { reason: `a\nb\0c\x1b[2J ${'x'.repeat(9999)}` }))
      const { deliveries } = await subject.store.ignored.list({ limit: 1 })
      expect(deliveries[0]?.reason).toMatch(/^a b c \[2J x{480,500}$/)
    })
  })
}
