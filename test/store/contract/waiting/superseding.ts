import { describe, expect, it } from 'vitest'
import type { Build, BuildRequest } from '../../../../src/lib/core/build.ts'
import { failed, push, request, type Subject } from '../subject.ts'

/** Which builds a newer push of their branch cancels. */
export function superseding(subject: Subject): void {
  const sha = (number: number) => number.toString(16).padStart(40, '0')
  /** A push of `feature` that cancels earlier builds of the branch. */
  const newer = (number: number, change: Partial<BuildRequest> = {}) =>
    push('feature', { sha: sha(number), supersede: 'queued', ...change })

  async function supersededBy(asked: BuildRequest): Promise<string[]> {
    const { superseded = [] } = await subject.store.accept(asked)
    return superseded.map(({ id }) => id)
  }

  describe('a newer push of a branch', () => {
    it('cancels the queued builds of the branch, which say by which build', async () => {
      const first = await subject.accepted(newer(1, { supersede: 'running' }))
      const { build: second, superseded } = await subject.store.accept(newer(2))
      const now = await subject.read(first.id)
      expect(superseded).toEqual([now])
      expect(now).toMatchObject({
        state: 'cancelled',
        error: `superseded by ${sha(2).slice(0, 7)}`,
        errorKind: 'cancelled',
        supersededBy: { id: second.id, sha: sha(2) },
        completedAt: expect.any(String),
      })
      expect(await subject.store.claim(first.id)).toBeNull()
      expect((await subject.store.unreported()).map(({ id }) => id)).toEqual([first.id])
      await subject.reopen()
      expect(await subject.read(first.id)).toEqual(now)
    })

    it('leaves running builds alone, unless it is to cancel them, too', async () => {
      const running = await subject.accepted(newer(1))
      await subject.claimed(running.id)
      expect(await supersededBy(newer(2, { supersede: 'queued' }))).toEqual([])
      const waiting = await subject.store.newest('acme/app', sha(2))
      expect(await supersededBy(newer(3, { supersede: 'running' }))).toEqual([running.id, waiting?.id])
      const now = await subject.read(running.id)
      expect(now).toMatchObject({
        state: 'building',
        cancel: { by: 'a newer push' },
        supersededBy: { sha: sha(3) },
      })
      expect(await subject.store.finish(running.id, 1, 1, failed())).toBe('cancel_requested')
      expect(await subject.store.finish(running.id, 1, 1, failed('superseded', 'cancelled'))).toBe('finished')
    })

    it('leaves a build alone that is moving its tags', async () => {
      const { id } = await subject.accepted(newer(1))
      const { attempt } = await subject.claimed(id)
      await subject.store.beginPublish(id, attempt)
      expect(await supersededBy(newer(2, { supersede: 'running' }))).toEqual([])
    })

    it('leaves builds alone that API or CLI asked for or joined', async () => {
      for (const kind of ['api', 'cli'] as const)
        await subject.accepted(newer(kind === 'api' ? 1 : 2, { source: { kind } }))
      await subject.accepted(newer(3))
      await subject.store.accept(request({ sha: sha(3) }))
      expect(await supersededBy(newer(4))).toEqual([])
    })

    it('leaves builds alone that also publish for another branch or a git tag', async () => {
      await subject.accepted(newer(1))
      await subject.store.accept(push('other', { sha: sha(1) }))
      expect(await supersededBy(newer(2))).toEqual([])
      await subject.store.accept(newer(2, { ref: { kind: 'tag', name: 'v1' } }))
      expect(await supersededBy(newer(3))).toEqual([])
    })

    it('cancels a build of the head of a pull request, which moves with the branch', async () => {
      const { id } = await subject.accepted(newer(1))
      await subject.store.accept(newer(1, { ref: { kind: 'pull', name: '7' } }))
      expect(await supersededBy(newer(2))).toEqual([id])
    })

    it('cancels nothing of other branches, other repositories, and the default branch', async () => {
      await subject.accepted(push('feature/b', { sha: sha(1) }))
      await subject.accepted(newer(2, { repository: 'acme/other' }))
      await subject.accepted(push('main', { sha: sha(3) }))
      await subject.accepted(newer(4, { ref: { kind: 'tag', name: 'feature' } }))
      expect(await supersededBy(newer(5))).toEqual([])
      expect(await supersededBy(push('main', { sha: sha(6), supersede: 'running' }))).toEqual([])
      expect(await supersededBy(newer(7, { ref: { kind: 'tag', name: 'feature' } }))).toEqual([])
    })

    it('found by comparing, cancels only what came before the heads were looked up', async () => {
      const before = await subject.accepted(newer(1))
      const since = await subject.store.reserveSequence()
      await subject.accepted(push('feature', { sha: sha(3) }))
      const found = { source: { kind: 'server' }, found: { since } } as const
      expect(await supersededBy(newer(2, found))).toEqual([before.id])
    })

    it('cancels nothing if it is not to, is delivered again, or is the older one', async () => {
      await subject.accepted(push('feature', { sha: sha(1) }))
      expect(await supersededBy(push('feature', { sha: sha(2) }))).toEqual([])
      const pushed = (number: number, before: number, pushedAt: number) =>
        newer(number, { push: { before: sha(before), after: sha(number), pushedAt } })
      const third = pushed(3, 2, 2000)
      expect(await supersededBy(third)).toHaveLength(2)
      expect(await supersededBy(third)).toEqual([])
      const late = pushed(9, 8, 1000)
      expect(await supersededBy(late)).toEqual([])
      expect(await subject.store.newest('acme/app', sha(3))).toMatchObject({ state: 'pending' })
    })
  })

  describe('a build that is of no interest to the forge', () => {
    const noDockerfile = { ...failed('no Dockerfile'), noDockerfile: true }
    const isNeutral = ({ neutral }: Build) => neutral === true

    it('failed as there is no Dockerfile, and no build of its repository has ever succeeded', async () => {
      const first = await subject.accepted(newer(1))
      expect(isNeutral(await subject.ended(first.id, noDockerfile))).toBe(true)
      const other = await subject.accepted(newer(2))
      expect(isNeutral(await subject.ended(other.id, failed()))).toBe(false)
      await subject.ended((await subject.accepted(newer(3, { repository: 'Acme/Other' }))).id)
      const there = await subject.accepted(newer(4, { repository: 'acme/other' }))
      expect(isNeutral(await subject.ended(there.id, noDockerfile))).toBe(false)
    })

    it('was superseded before that was known', async () => {
      const { id } = await subject.accepted(newer(1))
      const tried = await subject.accepted(push('feature', { sha: sha(2) }))
      await subject.claimed(tried.id)
      await subject.store.release(tried.id, 1)
      expect(await supersededBy(newer(3))).toEqual([id, tried.id])
      expect(isNeutral(await subject.read(id))).toBe(true)
      expect(isNeutral(await subject.read(tried.id))).toBe(false)
      await subject.ended((await subject.accepted(push('main', { sha: sha(4) }))).id)
      await subject.store.accept(newer(5))
      await subject.store.accept(newer(6))
      expect(isNeutral((await subject.store.newest('acme/app', sha(5))) as Build)).toBe(false)
    })
  })
}
