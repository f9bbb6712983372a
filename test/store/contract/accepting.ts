import { describe, expect, it } from 'vitest'
import { OTHER_SHA, push, request, SHA, type Subject, UUID } from './subject.ts'

export function accepting(subject: Subject): void {
  describe('accept', () => {
    it('creates a pending build for a push', async () => {
      const { build, outcome } = await subject.store.accept(push('main'))
      expect(outcome).toBe('created')
      expect(build).toEqual({
        id: expect.stringMatching(UUID),
        sequence: expect.any(Number),
        repository: 'acme/app',
        sha: SHA,
        refs: [{ kind: 'branch', name: 'main', sequence: build.sequence }],
        defaultBranch: 'main',
        cache: true,
        tree: null,
        source: 'webhook',
        commit: null,
        pushOrder: build.sequence,
        turn: { lane: 1, round: 0 },
        state: 'pending',
        attempt: 0,
        error: null,
        errorKind: null,
        createdAt: '2030-01-02T03:04:05.678Z',
        startedAt: null,
        completedAt: null,
      })
      expect(await subject.store.get(build.id)).toEqual(build)
    })

    it('finds the commits of a repository by the beginning of their id, each once', async () => {
      const [one, two] = [`1234567${'0'.repeat(33)}`, `1234567${'f'.repeat(33)}`]
      for (const sha of [one, two]) await subject.accepted(push('main', { sha }))
      await subject.accepted(push('dev', { sha: one }))
      await subject.accepted(push('main', { sha: `1234568${'0'.repeat(33)}` }))
      await subject.accepted(push('main', { sha: one, repository: 'acme/other' }))
      const found = (prefix: string, repository = 'ACME/app') =>
        subject.store.commitsStartingWith(repository, prefix, 10)
      expect((await found('1234567')).sort()).toEqual([one, two])
      expect(await found('12345670')).toEqual([one])
      expect(await found('1234567', 'acme/other')).toEqual([one])
      expect(await found(two)).toEqual([two])
      expect(await found('123456', 'acme/none')).toEqual([])
      for (const odd of ['', '%', '_', 'G', '\0', "'"]) expect(await found(odd)).toEqual([])
    })

    it('finds builds by the beginning of their id', async () => {
      const builds = [
        await subject.accepted(push('main', { sha: '1'.repeat(40) })),
        await subject.accepted(push('main', { sha: '2'.repeat(40) })),
      ]
      for (const build of builds) {
        for (const length of [36, 35, 24, 23, 19, 14, 9, 8, 1]) {
          const prefix = build.id.slice(0, length)
          const expected = builds.filter(({ id }) => id.startsWith(prefix))
          const found = await subject.store.startingWith(prefix, 10)
          expect(new Set(found)).toEqual(new Set(expected))
        }
      }
      expect(await subject.store.startingWith('', 10)).toEqual([])
      expect(await subject.store.startingWith(`${builds[0]?.id}0`, 10)).toEqual([])
      for (const odd of ['%', '_', 'G', '-', '\0', "'", '1-2', builds[0]?.id.toUpperCase() ?? '']) {
        expect(await subject.store.startingWith(odd, 10)).toEqual([])
      }
    })

    it('creates a build for only a sha', async () => {
      const build = await subject.accepted(request({ defaultBranch: null, cache: false }))
      expect(build).toMatchObject({
        refs: [],
        defaultBranch: null,
        cache: false,
        pushOrder: build.sequence,
      })
    })

    it('numbers requests in ascending order, skipping reserved numbers', async () => {
      const first = await subject.accepted(push('main'))
      const reserved = await subject.store.reserveSequence()
      const second = await subject.accepted(push('main', { sha: OTHER_SHA }))
      expect(reserved).toBeGreaterThan(first.sequence)
      expect(second.sequence).toBeGreaterThan(reserved)
    })

    it('joins the pending build of the same commit, and adds the ref', async () => {
      const first = await subject.accepted(push('main'))
      const joined = await subject.store.accept(push('release/1'))
      expect(joined.outcome).toBe('joined')
      expect(joined.build).toMatchObject({ id: first.id, sequence: first.sequence })
      expect(joined.build.refs).toEqual([
        first.refs[0],
        { kind: 'branch', name: 'release/1', sequence: joined.build.pushOrder },
      ])
      expect(joined.build.pushOrder).toBeGreaterThan(first.pushOrder)
      expect(await subject.store.get(first.id)).toEqual(joined.build)
    })

    it('joins the build that is already building, too', async () => {
      const first = await subject.accepted(push('main'))
      await subject.claimed(first.id)
      const { build, outcome } = await subject.store.accept(push('dev'))
      expect(outcome).toBe('joined')
      expect(build).toMatchObject({ id: first.id, state: 'building', attempt: 1 })
      expect(build.refs.map((ref) => ref.name)).toEqual(['main', 'dev'])
    })

    it('joins without a ref, and changes nothing but its turn: somebody waits for it', async () => {
      const first = await subject.accepted(push('main'))
      expect(await subject.store.accept(request())).toEqual({
        build: { ...first, turn: { lane: 0, round: 0 } },
        queued: false,
        outcome: 'joined',
      })
    })

    it('distinguishes a branch from a git tag of the same name', async () => {
      await subject.accepted(push('v1'))
      const build = await subject.accepted(push('', { ref: { kind: 'tag', name: 'v1' } }))
      expect(build.refs.map((ref) => ref.kind)).toEqual(['branch', 'tag'])
    })

    it('keeps one entry for a ref that is pushed again, at its newest position', async () => {
      await subject.accepted(push('main'))
      const dev = await subject.accepted(push('dev'))
      const again = await subject.accepted(push('main'))
      expect(again.refs.map((ref) => ref.name)).toEqual(['main', 'dev'])
      expect(again.refs[0]?.sequence).toBe(again.pushOrder)
      expect(again.pushOrder).toBeGreaterThan(dev.pushOrder)
    })

    it('keeps the newer position of a ref when an older request joins late', async () => {
      const sequence = await subject.store.reserveSequence()
      const pushed = await subject.accepted(push('main'))
      const late = await subject.accepted(request({ ref: { kind: 'branch', name: 'main' }, sequence }))
      expect(late.refs).toEqual(pushed.refs)
      expect(late.pushOrder).toBe(pushed.pushOrder)
    })

    it('builds a commit again after its build has ended', async () => {
      const first = await subject.accepted(push('main'))
      await subject.ended(first.id)
      const second = await subject.store.accept(push('main'))
      expect(second.outcome).toBe('created')
      expect(second.build.id).not.toBe(first.id)
    })

    it('does not mix up the same commit in two repositories', async () => {
      const one = await subject.accepted(push('main'))
      const other = await subject.store.accept(push('main', { repository: 'acme/fork' }))
      expect(other.outcome).toBe('created')
      expect(other.build.id).not.toBe(one.id)
    })

    it('ignores the case of repositories, and keeps the first spelling', async () => {
      const first = await subject.accepted(push('main', { repository: 'Acme/App' }))
      const joined = await subject.store.accept(push('dev', { repository: 'acme/aPP' }))
      expect(joined).toMatchObject({ outcome: 'joined', build: { id: first.id, repository: 'Acme/App' } })
      expect((await subject.store.newest('ACME/APP', SHA))?.id).toBe(first.id)
      await subject.ended(first.id)
      expect((await subject.store.newestArtifact('aCME/app', SHA))?.repository).toBe('Acme/App')
    })

    it('disables the cache of a pending build that is requested without it', async () => {
      const { id } = await subject.accepted(push('main'))
      expect((await subject.accepted(request({ cache: false }))).cache).toBe(false)
      expect((await subject.accepted(request({ cache: true }))).cache).toBe(false)
      expect((await subject.read(id)).cache).toBe(false)
    })

    it('does not change the cache setting of a build that has started', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      expect((await subject.accepted(request({ cache: false }))).cache).toBe(true)
    })

    it('takes the default branch from a joining request that knows it', async () => {
      await subject.accepted(request({ defaultBranch: null }))
      expect((await subject.accepted(push('main', { defaultBranch: 'trunk' }))).defaultBranch).toBe('trunk')
      expect((await subject.accepted(request({ defaultBranch: null }))).defaultBranch).toBe('trunk')
    })

    it('creates one build from 200 concurrent requests', async () => {
      const asked = Array.from({ length: 200 }, (_, i) => subject.store.accept(push(`branch-${i}`)))
      const answers = await Promise.all(asked)
      expect(new Set(answers.map(({ build }) => build.id)).size).toBe(1)
      expect(answers.filter(({ outcome }) => outcome === 'created')).toHaveLength(1)
      const build = await subject.read(answers[0]?.build.id ?? '')
      expect(build.refs).toHaveLength(200)
      expect(new Set(build.refs.map((ref) => ref.sequence)).size).toBe(200)
      expect(await subject.store.unfinished()).toEqual([build])
    })

    it('refuses a number that was never reserved, without failing other requests', async () => {
      const wrong = subject.store.accept(push('main', { sequence: 1_000_000 }))
      const others = [
        subject.store.accept(push('main', { sha: OTHER_SHA })),
        subject.store.reserveSequence(),
      ] as const
      await expect(wrong).rejects.toMatchObject({ name: 'ConveyorError', kind: 'invalid' })
      expect((await others[0]).outcome).toBe('created')
      expect(await others[1]).toBeGreaterThan(0)
      expect(await subject.store.newest('acme/app', SHA)).toBeNull()
    })
  })
}
