import { describe, expect, it } from 'vitest'
import type { BuildRequest } from '../../../../src/lib/core/build.ts'
import { push, request, type Subject } from '../subject.ts'

/** In which order builds start. */
export function turnsOfBuilds(subject: Subject): void {
  let number = 0
  const pushTo = (repository: string, change: Partial<BuildRequest> = {}) => {
    number += 1
    return push(`branch-${number}`, { repository, sha: number.toString(16).padStart(40, '0'), ...change })
  }
  const many = async (repository: string, count: number) => {
    await Promise.all(Array.from({ length: count }, () => subject.store.accept(pushTo(repository))))
  }
  /** The repositories of all builds that wait, in order. */
  async function order(limit = 500): Promise<string[]> {
    const names: string[] = []
    let cursor: string | null | undefined
    do {
      const page = await subject.store.waiting({ limit, ...(cursor && { cursor }) })
      for (const { build, position } of page.builds) {
        names.push(build.repository)
        expect(position).toBe(names.length)
      }
      cursor = page.next
    } while (cursor)
    return names
  }

  describe('the turn of a build', () => {
    it('comes after one build of each repository, however many another one has', async () => {
      await many('acme/monorepo', 20)
      await many('acme/small', 2)
      await many('acme/tiny', 1)
      const rest = Array(18).fill('acme/monorepo')
      const first = ['acme/monorepo', 'acme/small', 'acme/tiny', 'acme/monorepo', 'acme/small']
      expect(await order()).toEqual([...first, ...rest])
      expect(await order(3)).toEqual([...first, ...rest])
    })

    it('is in the round that is being served, not in an earlier one', async () => {
      await many('acme/monorepo', 10)
      for (let i = 0; i < 5; i++) {
        const [next] = (await subject.store.waiting({ limit: 1 })).builds
        await subject.ended(next?.build.id ?? '')
      }
      await many('acme/late', 3)
      await many('acme/monorepo', 1)
      const both = ['acme/monorepo', 'acme/late']
      expect(await order()).toEqual([...both, ...both, ...both, ...Array(3).fill('acme/monorepo')])
    })

    it('is not reset while builds run, so that one that is tried again does not wait for the others', async () => {
      await many('acme/monorepo', 5)
      const ids = (await subject.store.waiting({ limit: 5 })).builds.map(({ build }) => build.id)
      for (const id of ids.slice(0, 4)) await subject.ended(id)
      const [last = ''] = ids.slice(4)
      const { attempt } = await subject.claimed(last)
      await many('acme/other', 3)
      await subject.store.release(last, attempt)
      expect((await order())[0]).toBe('acme/monorepo')
    })

    it('comes first if somebody asked for it, or joined it, through the API', async () => {
      await many('acme/app', 3)
      await many('acme/other', 2)
      const asked = await subject.accepted(request({ repository: 'acme/cli', source: { kind: 'cli' } }))
      const [, , third] = (await subject.store.waiting({ limit: 10 })).builds
      await subject.store.markQueued(third?.build.id ?? '')
      const { sha = '', repository = '' } = third?.build ?? {}
      const joined = await subject.store.accept(request({ sha, repository }))
      expect(joined).toMatchObject({ outcome: 'joined', queued: false, build: { turn: { lane: 0 } } })
      const ids = (await subject.store.waiting({ limit: 10 })).builds.map(({ build }) => build.id)
      // The joined one is older.
      expect(ids.slice(0, 2)).toEqual([joined.build.id, asked.id])
    })

    it('of 200 pushes to one repository makes another repository wait for one of them', async () => {
      await many('acme/monorepo', 200)
      const { id } = await subject.accepted(pushTo('acme/other'))
      const { builds } = await subject.store.waiting({ limit: 500 })
      const position = builds.find(({ build }) => build.id === id)?.position
      expect(position).toBe(2)
      // Oldest first, as without turns.
      const inOrderOfArrival = builds.map(({ build }) => build).toSorted((a, b) => a.sequence - b.sequence)
      expect(inOrderOfArrival.findIndex((build) => build.id === id) + 1).toBe(201)
    })
  })
}
