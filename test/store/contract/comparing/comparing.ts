import { describe, expect, it } from 'vitest'
import type { BuildRequest, Head } from '../../../../src/lib/core/build.ts'
import type { Candidate } from '../../../../src/lib/store/comparisons.ts'
import { OTHER_SHA, push, request, SHA, type Subject } from '../subject.ts'

const THIRD_SHA = 'c'.repeat(40)
const TAG_OBJECT = 'd'.repeat(40)
const NONE = '0'.repeat(40)
const REPOSITORY = 'acme/app'
const MAIN = { kind: 'branch', name: 'main' } as const

const head = (sha: string, ref: Head['ref'] = MAIN): Head => ({ ref, sha, object: sha })
const candidate = (sha: string, before: string | null = null, ref: Head['ref'] = MAIN): Candidate => ({
  ...head(sha, ref),
  before,
})

/** A signed push of main. */
const pushed = (before: string, sha: string, pushedAt: number, change: Partial<BuildRequest> = {}) =>
  push('main', { sha, push: { before, after: sha, pushedAt }, ...change })

/** Finding pushes that no webhook announced. */
export function comparing(subject: Subject): void {
  /** The request for a head that was found. */
  const found = (sha: string, since: number, change: Partial<BuildRequest> = {}): BuildRequest =>
    request({ sha, ref: MAIN, source: { kind: 'server' }, reason: 'found', found: { since }, ...change })

  const unknown = async (candidates: Candidate[], sequence = 0) => {
    const heads = await subject.store.comparisons.unknown(REPOSITORY, candidates, sequence)
    return heads.map(({ sha }) => sha)
  }

  describe('comparisons', () => {
    it('are due from the first webhook of a repository on, with what was seen', async () => {
      const { comparisons } = subject.store
      await subject.accepted(request({ sha: OTHER_SHA }))
      expect(await comparisons.due(10)).toEqual([])
      await subject.accepted(push('main', { repository: 'Acme/App' }))
      const first = { repository: 'acme/app', heads: null, sequence: 0, waiting: [], isActive: true }
      expect(await comparisons.due(10)).toMatchObject([
        { ...first, repository: expect.stringMatching(/^acme\/app$/i) },
      ])

      const waiting = [{ ref: MAIN, sha: SHA, since: '2030-01-02T03:04:05.678Z' }]
      const heads = new Uint8Array([1, 0, 255])
      await comparisons.compared(REPOSITORY, { heads, sequence: 7, waiting }, 60)
      expect(await comparisons.due(10)).toEqual([])
      await subject.reopen()
      await subject.store.comparisons.restart()
      const [again] = await subject.store.comparisons.due(10)
      expect(again).toMatchObject({ sequence: 7, waiting })
      expect([...(again?.heads ?? [])]).toEqual([1, 0, 255])
    })

    it('are due active repositories first, and by the page', async () => {
      const { comparisons } = subject.store
      await subject.accepted(push('main', { repository: 'acme/one' }))
      await subject.accepted(push('main', { repository: 'acme/two' }))
      for (const name of ['acme/one', 'acme/two']) {
        await comparisons.compared(name, { heads: new Uint8Array(), sequence: 1, waiting: [] }, 1000)
      }
      expect(await comparisons.due(10)).toEqual([])
      await comparisons.restart()
      expect((await comparisons.due(10)).map(({ repository }) => repository).sort()).toEqual([
        'acme/one',
        'acme/two',
      ])
      expect(await comparisons.due(1)).toHaveLength(1)
    })

    it('show when the last one ended, and why it failed; what was seen remains', async () => {
      const { comparisons } = subject.store
      await subject.accepted(push('main'))
      expect(await comparisons.last(['Acme/App'])).toEqual(new Map())
      await comparisons.compared(REPOSITORY, { heads: new Uint8Array([1]), sequence: 7, waiting: [] }, -1)
      await comparisons.failed('Acme/App', 'the git server is down', -1)
      const at = expect.stringMatching(/^\d{4}-.*Z$/)
      const last = await comparisons.last(['Acme/App', 'acme/other'])
      expect([...last]).toEqual([['acme/app', { at, error: 'the git server is down' }]])
      const [due] = await comparisons.due(1)
      expect(due).toMatchObject({ sequence: 7 })
      expect([...(due?.heads ?? [])]).toEqual([1])
      await comparisons.compared(REPOSITORY, { heads: new Uint8Array([2]), sequence: 8, waiting: [] }, -1)
      expect([...(await comparisons.last([REPOSITORY])).values()]).toEqual([{ at, error: null }])
    })

    it('do not replace a later one, as by a server that was slow', async () => {
      const { comparisons } = subject.store
      await subject.accepted(push('main'))
      await comparisons.compared(REPOSITORY, { heads: new Uint8Array([2]), sequence: 8, waiting: [] }, -1)
      await comparisons.compared(REPOSITORY, { heads: new Uint8Array([1]), sequence: 7, waiting: [] }, -1)
      expect(await comparisons.due(1)).toMatchObject([{ sequence: 8 }])
    })
  })

  describe('a head', () => {
    it('is known if a build of its ref was requested, however it ended', async () => {
      await subject.accepted(pushed(NONE, SHA, 100))
      expect(await unknown([candidate(SHA), candidate(OTHER_SHA)])).toEqual([OTHER_SHA])
      const build = await subject.store.newest(REPOSITORY, SHA)
      await subject.store.requestCancel(build?.id ?? '', 'ada')
      expect(await unknown([candidate(SHA)])).toEqual([])
      await subject.accepted(request({ sha: OTHER_SHA, ref: MAIN }))
      expect(await unknown([candidate(OTHER_SHA)])).toEqual([])
    })

    it('of a new branch is unknown, even if another branch had its commit built; so is a git tag of that name', async () => {
      await subject.accepted(pushed(NONE, SHA, 100))
      const refs = [
        { kind: 'branch', name: 'topic' },
        { kind: 'tag', name: 'main' },
      ] as const
      for (const ref of refs) expect(await unknown([candidate(SHA, null, ref)])).toEqual([SHA])
    })

    it('is known if its webhook was ignored, by its commit or its tag object', async () => {
      const { ignored } = subject.store
      const delivery = { id: '1', event: 'push', repository: 'Acme/App', reason: 'skipped' }
      await ignored.add({ ...delivery, ref: 'refs/heads/main', sha: SHA })
      await ignored.add({ ...delivery, id: '2', ref: 'refs/tags/v1', sha: TAG_OBJECT })
      const tag = { kind: 'tag', name: 'v1' } as const
      const annotated = { ref: tag, sha: OTHER_SHA, object: TAG_OBJECT, before: null }
      const plain = { ref: tag, sha: OTHER_SHA, object: OTHER_SHA, before: null }
      const other = candidate(SHA, null, { kind: 'branch', name: 'other' })
      expect(
        await subject.store.comparisons.unknown(REPOSITORY, [candidate(SHA), annotated, plain, other], 0),
      ).toEqual([plain, other])
    })

    it('to which the ref was brought back is unknown; not if that push or none was announced', async () => {
      const { store } = subject
      await subject.accepted(pushed(NONE, SHA, 100))
      const since = await store.reserveSequence()
      // Seen at SHA; pushed to OTHER_SHA, and brought back.
      await subject.accepted(pushed(SHA, OTHER_SHA, 200))
      expect(await unknown([candidate(SHA, SHA)], since)).toEqual([SHA])
      expect(await store.comparisons.pushedSince(REPOSITORY, since)).toEqual([MAIN])
      const later = await store.reserveSequence()
      expect(await store.comparisons.pushedSince(REPOSITORY, later)).toEqual([])
      expect(await unknown([candidate(SHA, OTHER_SHA)], later)).toEqual([SHA])
      await subject.accepted(pushed(OTHER_SHA, SHA, 300))
      expect(await unknown([candidate(SHA, OTHER_SHA)], later)).toEqual([])
      // The webhook of an older push comes late.
      await subject.accepted(pushed(NONE, THIRD_SHA, 50))
      expect(await unknown([candidate(SHA, SHA)], later)).toEqual([])
      // A request through the API moves no ref at the forge.
      await subject.accepted(request({ sha: 'e'.repeat(40), ref: MAIN }))
      expect(await unknown([candidate(SHA, SHA)], later)).toEqual([])
    })

    it('that the git server showed late is known: its webhook came before it was looked up', async () => {
      await subject.accepted(pushed(NONE, SHA, 100))
      await subject.accepted(pushed(SHA, OTHER_SHA, 200))
      const since = await subject.store.reserveSequence()
      expect(await unknown([candidate(OTHER_SHA, SHA)], since)).toEqual([])
    })

    it('is looked up among hundreds', async () => {
      const sha = (number: number) => number.toString(16).padStart(40, '0')
      const ref = (number: number) => ({ kind: 'tag', name: `v${number}` }) as const
      const heads = Array.from({ length: 450 }, (_, number) => candidate(sha(number), null, ref(number)))
      for (const number of [0, 199, 200, 449]) {
        await subject.accepted(push('x', { sha: sha(number), ref: ref(number) }))
      }
      const missing = await unknown(heads)
      expect(missing).toHaveLength(446)
      expect(missing).not.toContain(sha(200))
    })
  })

  describe('a push that was found', () => {
    it('says why it is built, and gets the build of a late webhook while it waits, and after it', async () => {
      const { store } = subject
      const since = await store.reserveSequence()
      const { build, outcome } = await store.accept(found(SHA, since, { tree: OTHER_SHA }))
      expect(outcome).toBe('created')
      expect(build).toMatchObject({ source: 'server', reason: 'found', refs: [MAIN], tree: OTHER_SHA })
      const late = pushed(NONE, SHA, 100, { source: { kind: 'webhook', delivery: 'late' } })
      expect(await store.accept(late)).toMatchObject({ outcome: 'joined', build: { id: build.id } })
      await subject.ended(build.id)
      expect(await store.accept(late)).toMatchObject({ outcome: 'redelivered', build: { id: build.id } })
      // A redelivery with an id of its own.
      expect(await store.accept(pushed(NONE, SHA, 100))).toMatchObject({
        outcome: 'redelivered',
        build: { id: build.id },
      })
    })

    it('gives its build to a webhook that comes after it has ended, once', async () => {
      const { store } = subject
      const { build } = await store.accept(found(SHA, await store.reserveSequence()))
      await subject.ended(build.id)
      expect(await store.accept(pushed(NONE, SHA, 100))).toMatchObject({
        outcome: 'redelivered',
        build: { id: build.id },
      })
      // Pushed away and back: another push.
      await subject.accepted(pushed(SHA, OTHER_SHA, 200))
      expect(await store.accept(pushed(OTHER_SHA, SHA, 300))).toMatchObject({ outcome: 'created' })
    })

    it('does not take a later push back to its commit for its own', async () => {
      const { store } = subject
      const { build } = await store.accept(found(SHA, await store.reserveSequence()))
      await subject.ended(build.id)
      const seconds = Math.floor(Math.max(subject.clock, Date.now()) / 1000)
      await subject.accepted(pushed(SHA, OTHER_SHA, seconds + 200))
      expect(await store.accept(pushed(OTHER_SHA, SHA, seconds + 300))).toMatchObject({ outcome: 'created' })
    })

    it('gives its build to its webhook also after late ones of earlier pushes', async () => {
      const { store } = subject
      const { build } = await store.accept(found(SHA, await store.reserveSequence()))
      await subject.ended(build.id)
      const seconds = Math.floor(subject.clock / 1000)
      await subject.accepted(pushed(NONE, OTHER_SHA, seconds - 600))
      await subject.accepted(pushed(OTHER_SHA, THIRD_SHA, seconds - 500))
      expect(await store.accept(pushed(THIRD_SHA, SHA, seconds - 400))).toMatchObject({
        outcome: 'redelivered',
        build: { id: build.id },
      })
    })

    it('gives its build to a webhook without a signature', async () => {
      const { store } = subject
      const { build } = await store.accept(found(SHA, await store.reserveSequence()))
      await subject.ended(build.id)
      expect(await store.accept(push('main', { sha: SHA }))).toMatchObject({ outcome: 'redelivered' })
      expect((await store.newest(REPOSITORY, SHA))?.id).toBe(build.id)
    })

    it('gets the build of its webhook if that came while the heads were looked up', async () => {
      const { store } = subject
      const since = await store.reserveSequence()
      const { id } = await subject.accepted(pushed(NONE, SHA, 100))
      await subject.ended(id)
      expect(await store.accept(found(SHA, since))).toMatchObject({ outcome: 'redelivered', build: { id } })
      const next = await store.reserveSequence()
      expect(await store.accept(found(SHA, next))).toMatchObject({ outcome: 'created' })
    })

    it('joins the build that runs for another branch, and is found once', async () => {
      const { store } = subject
      const { id } = await subject.accepted(push('topic', { sha: SHA }))
      const since = await store.reserveSequence()
      const joined = await store.accept(found(SHA, since))
      expect(joined).toMatchObject({ outcome: 'joined', build: { id, refs: [{ name: 'topic' }, MAIN] } })
      expect(await unknown([candidate(SHA)])).toEqual([])
      expect(await unknown([candidate(SHA, SHA)], await store.reserveSequence())).toEqual([])
    })

    it('stays known when the webhook of an earlier push comes late', async () => {
      const { store } = subject
      const since = await store.reserveSequence()
      await store.accept(found(SHA, since))
      const seconds = Math.floor(subject.clock / 1000)
      await subject.accepted(pushed(NONE, OTHER_SHA, seconds - 600))
      expect(await unknown([candidate(SHA, SHA)], since)).toEqual([])
      // A push long after it was found, however, moved the ref.
      const now = Math.floor(Date.now() / 1000)
      await subject.accepted(pushed(OTHER_SHA, THIRD_SHA, Math.max(now, seconds) + 600))
      expect(await unknown([candidate(SHA, SHA)], since)).toEqual([SHA])
    })

    it('has its own position, which later pushes come after', async () => {
      const { store } = subject
      await subject.accepted(pushed(NONE, SHA, 100))
      await subject.accepted(pushed(SHA, OTHER_SHA, 200))
      const build = await subject.accepted(found(SHA, await store.reserveSequence()))
      const [ref] = build.refs.filter(({ name }) => name === 'main')
      expect(ref?.sequence).toBeGreaterThan(2)
    })
  })
}
