import { describe, expect, it } from 'vitest'
import type { BuildRequest, PushFacts, Ref } from '../../../src/lib/core/build.ts'
import type { Push } from '../../../src/lib/core/push-order.ts'
import type { TagMove } from '../../../src/lib/store/build-store.ts'
import { OTHER_SHA, push, request, SHA, type Subject } from './subject.ts'

const IMAGE = 'registry.test/acme/app'
const THIRD_SHA = 'c'.repeat(40)
const NOTHING = '0'.repeat(40)

/** A signed push to `branch`, with these facts. */
function told(branch: string, sha: string, facts: Partial<PushFacts>, rest: Partial<BuildRequest> = {}) {
  return push(branch, { sha, push: { before: NOTHING, after: sha, pushedAt: 100, ...facts }, ...rest })
}

export function pushes(subject: Subject): void {
  /** Tries to move the tag of a ref; resolves to the tags that moved. */
  const move = (ref: Ref, sequence: number, others: string[] = [], settle?: () => Promise<boolean>) => {
    const own: TagMove = { tag: ref.name.replace('/', '-'), sequence, owner: { ref, others } }
    const latest: TagMove = { tag: 'latest', sequence, shared: { ref, as: own.tag } }
    return subject.store.moveTags(IMAGE, [own, latest], async () => {}, settle)
  }
  const branch = (name: string): Ref => ({ kind: 'branch', name })
  const main = branch('main')

  describe('a signed push', () => {
    it('is the same under any delivery id, and after a restart', async () => {
      const { id } = await subject.accepted(told('main', SHA, {}))
      await subject.ended(id)
      await subject.reopen()
      expect(await subject.store.accept(told('main', SHA, {}))).toMatchObject({
        outcome: 'redelivered',
        build: { id },
      })
      for (const other of [{ pushedAt: 101 }, { pushedAt: null }, { before: OTHER_SHA }]) {
        const answer = await subject.store.accept(told('main', SHA, other))
        expect(answer.outcome).not.toBe('redelivered')
        await subject.ended(answer.build.id)
      }
      expect((await subject.store.accept(told('dev', SHA, {}))).outcome).toBe('created')
    })

    it('is a new one if its branch was elsewhere within the second', async () => {
      const { id } = await subject.accepted(told('main', SHA, {}))
      await subject.ended(id)
      await subject.ended((await subject.accepted(told('main', OTHER_SHA, { before: SHA }))).id)
      expect((await subject.store.accept(told('main', SHA, {}))).outcome).toBe('created')
    })

    it('is ordered by the time of the push, whatever arrives first', async () => {
      const late = await subject.accepted(told('main', OTHER_SHA, { pushedAt: 200 }))
      const early = await subject.accepted(told('main', SHA, { pushedAt: 100 }))
      expect(await move(main, late.pushOrder)).toEqual(['main', 'latest'])
      expect(await move(main, early.pushOrder)).toEqual([])
      await subject.reopen()
      expect(await move(main, early.pushOrder)).toEqual([])
      const dev = await subject.accepted(told('dev', THIRD_SHA, { pushedAt: 150 }))
      expect(await move(branch('dev'), dev.pushOrder)).toEqual(['dev'])
      expect(await move(main, late.pushOrder)).toEqual(['main', 'latest'])
    })

    it('is in doubt within a second, which is settled once, or else by before and after', async () => {
      const two = await subject.accepted(told('main', OTHER_SHA, { before: SHA }))
      const one = await subject.accepted(told('main', SHA, {}))
      await move(main, two.pushOrder)
      let asked = 0
      const settle = async () => {
        asked += 1
        return true
      }
      expect(await move(main, one.pushOrder)).toEqual([])
      expect(await move(main, one.pushOrder, [], settle)).toEqual(['main', 'latest'])
      expect(asked).toBe(1)
    })

    it('joins a build as the newest known push of its ref', async () => {
      const first = await subject.accepted(told('main', SHA, { pushedAt: 300 }))
      const joined = await subject.accepted(told('main', SHA, { pushedAt: 100, before: OTHER_SHA }))
      expect(joined.id).toBe(first.id)
      expect(joined.refs).toEqual(first.refs)
      const newer = await subject.accepted(told('main', SHA, { pushedAt: 400, before: OTHER_SHA }))
      expect(newer.refs[0]?.sequence).toBeGreaterThan(first.refs[0]?.sequence ?? 0)
    })

    it('orders API requests by the pushes known when they arrived', async () => {
      await subject.accepted(told('main', OTHER_SHA, { pushedAt: 200 }))
      const sequence = await subject.store.reserveSequence()
      const newer = await subject.accepted(told('dev', THIRD_SHA, { pushedAt: 300 }))
      const asked = await subject.accepted(request({ ref: main, sequence }))
      await move(branch('dev'), newer.pushOrder)
      const seen: Push[] = []
      await subject.store.moveTags(IMAGE, [{ tag: 'latest', sequence, shared: true }], async () => {})
      await move(main, asked.pushOrder)
      await move(main, (await subject.accepted(told('main', OTHER_SHA, { before: THIRD_SHA }))).pushOrder)
      expect(seen).toEqual([])
      const late = await subject.accepted(told('main', 'd'.repeat(40), { pushedAt: 250, before: OTHER_SHA }))
      const own: TagMove = { tag: 'main', sequence: late.pushOrder, owner: { ref: main, others: [] } }
      await subject.store.moveTags(
        IMAGE,
        [own],
        async () => {},
        async (candidate, recorded) => {
          seen.push(candidate, recorded)
          return true
        },
      )
      expect(seen.map(({ pushedAt, signed }) => [pushedAt, signed])).toEqual([
        [250, true],
        [200, false],
      ])
    })
  })

  describe('a docker tag', () => {
    const gitTag: Ref = { kind: 'tag', name: 'main' }

    it('stays with the ref that had it first; others get the first free name', async () => {
      expect(await move(main, 1)).toEqual(['main', 'latest'])
      expect(await move(gitTag, 9, ['main--1', 'main--2'])).toEqual(['main--1'])
      await subject.reopen()
      expect(await move(gitTag, 10, ['main--1', 'main--2'])).toEqual(['main--1'])
      expect(await move(branch('x/main'), 1, ['main--1'])).toEqual(['x-main', 'latest'])
      expect(await move({ kind: 'tag', name: 'x/main' }, 11, ['main--1'])).toEqual([])
      expect(await move(main, 12)).toEqual(['main', 'latest'])
    })

    it('belongs to a single ref when many want it at once', async () => {
      const refs: Ref[] = [main, gitTag]
      const moved = await Promise.all(
        Array.from({ length: 20 }, (_, i) => move(refs[i % 2] ?? main, i + 1, ['main--1'])),
      )
      const owned = (name: string) => moved.flatMap((tags, i) => (tags.includes(name) ? [i % 2] : []))
      expect(new Set(owned('main')).size).toBe(1)
      expect(new Set(owned('main--1')).size).toBe(1)
      expect(owned('main')[0]).not.toBe(owned('main--1')[0])
    })
  })

  describe('a commit', () => {
    it('is announced by trusted pushes of people', async () => {
      const queue = branch('gh-readonly-queue/main/pr-1')
      await subject.accepted(told(queue.name, SHA, {}))
      await subject.accepted(push('topic', { unproven: true }))
      await subject.accepted(request())
      expect(await subject.store.announced('acme/app', SHA, null)).toBe(false)
      expect(await subject.store.announced('acme/app', SHA, branch('topic'))).toBe(false)
      await subject.accepted(told('main', SHA, {}))
      expect(await subject.store.announced('ACME/App', SHA, null)).toBe(true)
      expect(await subject.store.announced('acme/app', SHA, main)).toBe(true)
      expect(await subject.store.announced('acme/app', SHA, branch('topic'))).toBe(false)
      expect(await subject.store.announced('acme/app', OTHER_SHA, null)).toBe(false)
    })

    it('of a merge queue, or with withheld tags, has no position until a push gives it one', async () => {
      const withheld = [
        { tag: 'main', reason: 'no' },
        { tag: 'latest', reason: 'no' },
      ]
      const queued = await subject.accepted(told('gh-readonly-queue/main/pr-1', OTHER_SHA, {}))
      expect(queued.pushOrder).toBe(0)
      const alone = await subject.accepted(request({ withheld }))
      expect(alone).toMatchObject({ pushOrder: 0, withheld, refs: [] })
      const merged = await subject.accepted(told('main', OTHER_SHA, { pushedAt: 101 }))
      expect(merged.pushOrder).toBe(merged.refs[1]?.sequence)
      const joined = await subject.accepted(told('dev', SHA, {}))
      expect(joined.pushOrder).toBe(joined.refs[0]?.sequence)
      expect(joined.withheld).toEqual([{ tag: 'main', reason: 'no' }])
    })

    it('of an unsigned push is marked as such', async () => {
      const build = await subject.accepted(push('main', { unproven: true }))
      expect(build.refs).toEqual([{ ...main, sequence: build.sequence, unproven: true }])
    })
  })

  it('spells repositories as the newest signed webhook does', async () => {
    expect(await subject.store.spelling('acme/app')).toBeNull()
    await subject.accepted(request({ repository: 'ACME/app' }))
    expect(await subject.store.spelling('acme/app')).toBeNull()
    await subject.accepted(told('main', OTHER_SHA, {}, { repository: 'Acme/App' }))
    expect(await subject.store.spelling('acme/app')).toBe('Acme/App')
    const asked = await subject.accepted(request({ repository: 'acme/app', sha: THIRD_SHA }))
    expect(asked.repository).toBe('Acme/App')
    await subject.accepted(told('main', 'd'.repeat(40), { pushedAt: 101 }, { repository: 'acme/App' }))
    expect(await subject.store.spelling('ACME/APP')).toBe('acme/App')
  })
}
