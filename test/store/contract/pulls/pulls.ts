import { describe, expect, it } from 'vitest'
import type { PullRequest } from '../../../../src/lib/core/pull-request.ts'
import { OTHER_SHA, push, request, SHA, type Subject, succeeded } from '../subject.ts'

const PULL: PullRequest = {
  repository: 'Acme/App',
  number: 7,
  title: 'Greet people',
  author: 'ada',
  open: true,
  head: { sha: SHA, branch: 'topic', repository: 'acme/app' },
  updatedAt: '2030-01-02T03:04:05.000Z',
}
const FORK = { pull: 7, repository: 'mallory/app', approvedBy: 'ada' }
const asPull = { ref: { kind: 'pull', name: '7' }, defaultBranch: null } as const

export function pulls(subject: Subject): void {
  describe('pulls', () => {
    it('keeps the latest state of a pull request, in whatever order states arrive', async () => {
      const { pulls } = subject.store
      const later = { ...PULL, head: { ...PULL.head, sha: OTHER_SHA }, updatedAt: '2030-01-02T03:04:06.000Z' }
      expect(await pulls.get('acme/app', 7)).toBeNull()
      expect(await pulls.put(later)).toBe(true)
      expect(await pulls.put(PULL)).toBe(false)
      expect(await pulls.put(later)).toBe(true)
      expect(await pulls.get('acme/APP', 7)).toEqual(later)
      expect(await pulls.withHead('acme/app', SHA)).toEqual([])
      expect(await pulls.withHead('ACME/app', OTHER_SHA)).toEqual([later])
    })

    it('remembers all heads of a pull request, whatever came first', async () => {
      const { pulls } = subject.store
      const alike = `${SHA.slice(0, 7)}${'0'.repeat(33)}`
      const at = (sha: string, second: number, open = true): PullRequest => ({
        ...PULL,
        open,
        head: { sha, branch: 'topic', repository: 'mallory/app' },
        updatedAt: `2030-01-02T03:04:0${second}.000Z`,
      })
      await pulls.put(at(OTHER_SHA, 5))
      await pulls.put(at(SHA, 4))
      await pulls.put(at(alike, 6, false))
      await pulls.put({ ...PULL, number: 8, head: { ...PULL.head, sha: OTHER_SHA } })
      for (const sha of [SHA, OTHER_SHA, alike])
        expect(await pulls.ofForksWith('ACME/app', sha)).toEqual([at(alike, 6, false)])
      expect(await pulls.ofForksWith('acme/other', SHA)).toEqual([])
      const like = (digits: string, limit = 5) => pulls.headsLike('acme/APP', 7, digits, limit)
      expect(await like(SHA.slice(0, 7))).toEqual([SHA, alike].sort())
      expect(await like(SHA.slice(0, 7), 1)).toHaveLength(1)
      expect(await like(SHA)).toEqual([SHA])
      expect(await like('%')).toEqual([])
    })

    it('lists the open ones, the one that changed last first', async () => {
      const { pulls } = subject.store
      const at = (second: number) => `2030-01-02T03:04:0${second}.000Z`
      const all = [1, 2, 3, 4].map((number) => ({
        ...PULL,
        number,
        updatedAt: at(number),
        title: `No. ${number}\0`,
      }))
      for (const pull of all) await pulls.put(pull)
      await pulls.put({ ...PULL, number: 2, open: false, updatedAt: at(5) })
      await pulls.put({ ...PULL, number: 1, updatedAt: at(6) })
      await pulls.put({ ...PULL, repository: 'acme/other' })
      const numbers = async (limit: number) =>
        (await pulls.open('acme/app', limit)).map(({ number }) => number)
      expect(await numbers(10)).toEqual([1, 4, 3])
      expect(await numbers(2)).toEqual([1, 4])
      expect((await pulls.get('acme/app', 3))?.title).toBe('No. 3\ufffd')
    })

    it('is uncleaned when closed, once nothing is being built for it, until it is marked', async () => {
      const { store } = subject
      const closed = { ...PULL, open: false, updatedAt: '2030-01-02T03:04:09.000Z' }
      await store.pulls.put(PULL)
      const { id } = await subject.accepted(push('topic', asPull))
      await store.pulls.put(closed)
      expect(await store.pulls.uncleaned(10)).toEqual([])
      const build = await store.claim(id)
      expect(await store.finish(id, build?.attempt ?? 0, 1, succeeded())).toBe('finished')
      expect(await store.pulls.uncleaned(10)).toEqual([closed])
      await store.pulls.markCleaned(PULL)
      expect(await store.pulls.uncleaned(10)).toEqual([closed])
      await store.pulls.markCleaned(closed)
      expect(await store.pulls.uncleaned(10)).toEqual([])
      // A build that is requested later publishes the tag once more.
      const retry = await subject.accepted(request(asPull))
      await store.pulls.markCleaned(closed)
      await store.claim(retry.id)
      await store.pulls.markCleaned(closed)
      await store.finish(retry.id, 1, 1, succeeded())
      expect(await store.pulls.uncleaned(10)).toEqual([closed])
    })

    it('a pull request that is opened again while its tag is removed keeps it', async () => {
      const { pulls } = subject.store
      const closed = { ...PULL, open: false, updatedAt: '2030-01-02T03:04:09.000Z' }
      await pulls.put(closed)
      await pulls.put({ ...PULL, updatedAt: '2030-01-02T03:04:10.000Z' })
      expect(await pulls.uncleaned(10)).toEqual([])
      await pulls.markCleaned(closed)
      expect((await pulls.get('acme/app', 7))?.open).toBe(true)
    })

    it('the tag of a ref is removed under the name that it got', async () => {
      const { store } = subject
      const image = 'registry.test/acme/app'
      const build = await subject.accepted(push('topic', asPull))
      const [ref] = build.refs
      const dropped: string[] = []
      const drop = () => store.dropTag(image, asPull.ref, async (tag) => void dropped.push(tag))
      expect(await drop()).toBeNull()
      const owner = { ref: asPull.ref, others: ['pr-7--other'] }
      await store.moveTags(image, [{ tag: 'pr-7', sequence: ref?.sequence ?? 0, owner }], async () => {})
      expect(await drop()).toBe('pr-7')
      expect(dropped).toEqual(['pr-7'])
      const failing = store.dropTag(image, asPull.ref, () => Promise.reject(new Error('no answer')))
      await expect(failing).rejects.toThrow('no answer')
    })
  })

  describe('the commit of a fork', () => {
    it('has a build of its own, apart from that of the same commit', async () => {
      const { store } = subject
      const own = await subject.accepted(push('main'))
      const forked = await subject.accepted(request({ ...asPull, fork: FORK }))
      expect(forked.id).not.toBe(own.id)
      expect(forked).toMatchObject({ fork: FORK, pushOrder: 0 })
      expect(own.fork).toBeUndefined()
      expect(await store.get(forked.id)).toEqual(forked)
      // Each is joined by requests of its kind.
      const again = await store.accept(request({ ...asPull, fork: FORK }))
      expect([again.build.id, again.outcome]).toEqual([forked.id, 'joined'])
      expect((await store.accept(push('dev'))).build.id).toBe(own.id)
      const other = { ref: { kind: 'pull', name: '8' }, fork: { ...FORK, pull: 8 } } as const
      expect((await store.accept(request(other))).outcome).toBe('created')

      expect((await store.newest('acme/app', SHA))?.id).toBe(own.id)
      expect((await store.newest('acme/app', SHA, 7))?.id).toBe(forked.id)
      expect((await store.newest('acme/app', SHA, 'any'))?.fork?.pull).toBe(8)
      expect(await store.announced('acme/app', SHA, null)).toBe(true)
    })

    it('does not announce the commit, and its image is never that of another build', async () => {
      const { store } = subject
      const { id } = await subject.accepted(request({ ...asPull, fork: FORK }))
      await store.claim(id)
      const recipe = { context: 'c', dockerfile: 'd', settings: 's' }
      const result = { ...succeeded(['registry.test/acme/app:pr-7']), recipe, tree: OTHER_SHA }
      expect(await store.finish(id, 1, 1, result)).toBe('finished')
      expect(await store.announced('acme/app', SHA, null)).toBe(false)
      expect(await store.newestArtifact('acme/app', SHA)).toBeNull()
      expect(await store.artifactsByTree('acme/app', OTHER_SHA, 5)).toEqual([])
      expect(await store.artifactsByRecipe('acme/app', recipe, 5)).toEqual([])
      expect(await store.lastArtifact('acme/app', [])).toBeNull()
      expect(await store.recentArtifacts(5)).toEqual([])
      expect((await store.lastArtifact('acme/app', [asPull.ref]))?.buildId).toBe(id)
      expect((await store.artifactOf(id))?.sha).toBe(SHA)
      // A commit that is requested alone later takes the position of a new push, not that of the fork.
      const later = await subject.accepted(request())
      expect(later.pushOrder).toBe(later.sequence)
    })
  })
}
