import { describe, expect, it } from 'vitest'
import { failed, OTHER_SHA, push, request, SHA, type Subject, succeeded, UUID } from '../subject.ts'

export function attempts(subject: Subject): void {
  describe('an attempt', () => {
    it('starts with a claim', async () => {
      const { id } = await subject.accepted(push('main'))
      subject.clock += 1000
      const build = await subject.claimed(id)
      expect(build).toMatchObject({ state: 'building', attempt: 1, startedAt: '2030-01-02T03:04:06.678Z' })
      expect(build.refs).toHaveLength(1)
      expect(await subject.read(id)).toEqual(build)
    })

    it('is fenced off by a later one', async () => {
      const { id } = await subject.accepted(push('main'))
      const first = await subject.claimed(id)
      subject.clock += 1000
      const second = await subject.claimed(id)
      expect(second).toMatchObject({ attempt: 2, startedAt: first.startedAt })
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('superseded')
      expect(await subject.store.finish(id, 1, 1, failed('late'))).toBe('superseded')
      expect(await subject.store.release(id, 1)).toBe(false)
      expect(await subject.read(id)).toEqual(second)
      expect(await subject.store.artifactOf(id)).toBeNull()
      expect(await subject.store.finish(id, 2, 1, succeeded())).toBe('finished')
    })

    it('belongs to one of many workers that claim at once', async () => {
      const { id } = await subject.accepted(push('main'))
      const claims = await Promise.all(Array.from({ length: 20 }, () => subject.claimed(id)))
      const attempts = claims.map((build) => build.attempt)
      expect(attempts.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
      const ends = await Promise.all(
        attempts.map((attempt) => subject.store.finish(id, attempt, 1, succeeded())),
      )
      expect(ends.filter((end) => end === 'finished')).toHaveLength(1)
      expect(ends[attempts.indexOf(20)]).toBe('finished')
    })

    it('can be released, once', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      expect(await subject.store.release(id, 1)).toBe(true)
      expect(await subject.read(id)).toMatchObject({ state: 'pending', attempt: 1 })
      expect(await subject.store.release(id, 1)).toBe(false)
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('superseded')
      expect((await subject.claimed(id)).attempt).toBe(2)
    })

    it('does not count when its worker shut down', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.claimed(id)
      expect(await subject.store.release(id, 1, { counts: false })).toBe(false)
      expect(await subject.store.release(id, 2, { counts: false })).toBe(true)
      expect(await subject.read(id)).toMatchObject({ state: 'pending', attempt: 1 })
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('superseded')
      expect((await subject.claimed(id)).attempt).toBe(2)
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('superseded')
    })

    it('ends in success together with its artifact', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      subject.clock += 60_000
      const result = succeeded(['registry.test/acme/app:main', 'registry.test/acme/app:"odd"'])
      expect(await subject.store.finish(id, 1, 1, result)).toBe('finished')
      const completedAt = '2030-01-02T03:05:05.678Z'
      expect(await subject.read(id)).toMatchObject({
        state: 'succeeded',
        error: null,
        errorKind: null,
        completedAt,
      })
      const artifact = await subject.store.artifactOf(id)
      expect(artifact).toEqual({
        id: expect.stringMatching(UUID),
        buildId: id,
        repository: 'acme/app',
        sha: SHA,
        image: result.state === 'succeeded' && result.image,
        tags: result.state === 'succeeded' && result.tags,
        recipe: null,
        tree: null,
        bases: null,
        createdAt: completedAt,
      })
      expect(await subject.store.artifact(artifact?.id ?? '')).toEqual(artifact)
      expect(await subject.store.newestArtifact('acme/app', SHA)).toEqual(artifact)
    })

    it.each(['failed', 'cancelled'] as const)('ends as %s with the reason and no artifact', async (state) => {
      const { id } = await subject.accepted(push('main'))
      const build = await subject.ended(id, failed('RUN make: exit code 2', state))
      const errorKind = state === 'failed' ? 'build_failed' : 'cancelled'
      expect(build).toMatchObject({ state, error: 'RUN make: exit code 2', errorKind })
      expect(build.completedAt).not.toBeNull()
      expect(await subject.store.artifactOf(id)).toBeNull()
      expect(await subject.store.newestArtifact('acme/app', SHA)).toBeNull()
    })

    it('ends with a reason that no database accepts unchanged', async () => {
      const { id } = await subject.accepted(push('main'))
      const build = await subject.ended(id, failed('unknown instruction: F\0R\0 \ud800'))
      expect(build.error).toBe('unknown instruction: F\ufffdR\ufffd \ufffd')
    })

    it('ends only once', async () => {
      const { id } = await subject.accepted(push('main'))
      const build = await subject.ended(id)
      expect(await subject.store.finish(id, 1, 1, failed())).toBe('superseded')
      expect(await subject.store.claim(id)).toBeNull()
      expect(await subject.store.release(id, 1)).toBe(false)
      expect(await subject.read(id)).toEqual(build)
      expect(await subject.store.unfinished()).toEqual([])
    })

    it('cannot end before it has started', async () => {
      const { id } = await subject.accepted(push('main'))
      expect(await subject.store.finish(id, 0, 1, succeeded())).toBe('superseded')
      expect(await subject.store.release(id, 0)).toBe(false)
      expect((await subject.read(id)).state).toBe('pending')
    })

    it('publishes a ref that has joined before it succeeds', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      const joined = await subject.accepted(push('dev'))
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('refs_added')
      expect(await subject.read(id)).toEqual(joined)
      expect(await subject.store.artifactOf(id)).toBeNull()
      expect(await subject.store.finish(id, 1, 2, succeeded())).toBe('finished')
    })

    it('publishes a ref that was pushed again before it succeeds', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.accepted(push('main', { sha: OTHER_SHA }))
      const back = await subject.accepted(push('main'))
      expect(back.id).toBe(id)
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('refs_added')
      expect((await subject.read(id)).pushOrder).toBe(back.pushOrder)
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('finished')
    })

    it('succeeds at once when nothing was pushed since it started', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.accepted(request({ ref: { kind: 'branch', name: 'main' } }))
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('finished')
    })

    it('fails or is cancelled whatever has joined', async () => {
      for (const state of ['failed', 'cancelled'] as const) {
        const { id } = await subject.accepted(push('main'))
        const { attempt } = await subject.claimed(id)
        await subject.accepted(push('dev'))
        expect(await subject.store.finish(id, attempt, 1, failed('no', state))).toBe('finished')
      }
    })

    it.each(['accept', 'finish'])('never loses a ref that joins while it ends, %s first', async (first) => {
      for (let round = 0; round < 10; round++) {
        const sha = round.toString(16).padStart(40, '0')
        const { id } = await subject.accepted(push('main', { sha }))
        await subject.claimed(id)
        const join = () => subject.store.accept(push('dev', { sha }))
        const early = first === 'accept' ? join() : null
        const end = subject.store.finish(id, 1, 1, succeeded())
        const { outcome } = await (early ?? join())
        expect([outcome, await end]).toEqual(
          outcome === 'joined' ? ['joined', 'refs_added'] : ['created', 'finished'],
        )
      }
    })

    it('leaves the newest artifact of a commit to the newest build', async () => {
      const first = await subject.accepted(push('main'))
      await subject.ended(first.id)
      const second = await subject.accepted(push('main'))
      await subject.ended(second.id)
      const third = await subject.accepted(push('main'))
      await subject.ended(third.id, failed())
      expect((await subject.store.newestArtifact('acme/app', SHA))?.buildId).toBe(second.id)
    })
  })
}
