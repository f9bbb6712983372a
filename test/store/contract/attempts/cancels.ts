import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isEnded } from '../../../../src/lib/core/build.ts'
import { failed, push, request, type Subject, succeeded, UUID } from '../subject.ts'

/** Builds that somebody cancels, at whatever moment. */
export function cancels(subject: Subject): void {
  describe('a cancel', () => {
    it('ends a pending build at once, which nobody can claim then', async () => {
      const { id } = await subject.accepted(push('main'))
      subject.clock += 1000
      const cancelled = await subject.store.requestCancel(id, 'ada')
      expect(cancelled).toMatchObject({
        state: 'cancelled',
        error: 'cancelled by ada',
        errorKind: 'cancelled',
        startedAt: null,
        completedAt: '2030-01-02T03:04:06.678Z',
        cancel: { by: 'ada', at: '2030-01-02T03:04:06.678Z' },
      })
      expect(await subject.read(id)).toEqual(cancelled)
      expect(await subject.store.claim(id)).toBeNull()
      expect(await subject.store.claimFor(id, 60)).toBeNull()
      expect(await subject.store.unfinished()).toEqual([])
      expect(await subject.store.unqueued(0)).toEqual([])
      expect((await subject.store.unreported()).map((build) => build.id)).toEqual([id])
    })

    it('of a building one is recorded; the first of several counts', async () => {
      const { id } = await subject.accepted(push('main'))
      const claimed = await subject.claimed(id)
      expect(await subject.store.cancelRequests([id])).toEqual([])
      const cancel = { by: 'ada', at: '2030-01-02T03:04:05.678Z' }
      expect(await subject.store.requestCancel(id, 'ada')).toEqual({ ...claimed, cancel })
      subject.clock += 1000
      expect(await subject.store.requestCancel(id, 'bob')).toEqual({ ...claimed, cancel })
      expect(await subject.store.cancelRequests([id])).toEqual([{ id, by: 'ada' }])
      expect(await subject.store.cancelRequests([])).toEqual([])
    })

    it('leaves a building one only one way to end', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.store.requestCancel(id, 'ada')
      expect(await subject.store.beginPublish(id, 1)).toBe('cancel_requested')
      expect(await subject.store.finish(id, 1, 1, succeeded())).toBe('cancel_requested')
      expect(await subject.store.finish(id, 1, 1, failed())).toBe('cancel_requested')
      expect(await subject.store.release(id, 1)).toBe(false)
      expect(await subject.store.release(id, 1, { counts: false })).toBe(false)
      expect(await subject.read(id)).toMatchObject({ state: 'building', attempt: 1 })
      expect(await subject.store.artifactOf(id)).toBeNull()
      const result = failed('cancelled by ada', 'cancelled')
      expect(await subject.store.finish(id, 1, 1, result)).toBe('finished')
      expect(await subject.read(id)).toMatchObject({ state: 'cancelled', cancel: { by: 'ada' } })
      expect(await subject.store.cancelRequests([id])).toEqual([])
    })

    it('is known to the worker that takes over the build', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.store.requestCancel(id, 'ada')
      await subject.reopen()
      expect(await subject.claimed(id)).toMatchObject({ attempt: 2, cancel: { by: 'ada' } })
      expect(await subject.store.finish(id, 1, 1, failed('late', 'cancelled'))).toBe('superseded')
      expect(await subject.store.beginPublish(id, 1)).toBe('superseded')
    })

    it('comes too late once tags are moved, until that attempt has ended', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.accepted(push('dev'))
      const publishing = await subject.store.beginPublish(id, 1)
      expect(publishing).toEqual(await subject.read(id))
      expect(publishing).toMatchObject({ refs: [{ name: 'main' }, { name: 'dev' }] })
      expect(await subject.store.requestCancel(id, 'ada')).toBeNull()
      expect(await subject.store.beginPublish(id, 1)).toEqual(publishing) // for a ref that joined
      expect((await subject.read(id)).cancel).toBeUndefined()

      expect(await subject.store.release(id, 1)).toBe(true)
      const cancelled = await subject.store.requestCancel(id, 'ada')
      expect(cancelled).toMatchObject({ state: 'cancelled', attempt: 1 })
    })

    it('is possible again once the attempt builds instead, unless another one has the build', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.store.beginPublish(id, 1)
      await subject.store.cancelPublish(id, 2)
      expect(await subject.store.requestCancel(id, 'ada')).toBeNull()
      await subject.store.cancelPublish(id, 1)
      expect(await subject.store.requestCancel(id, 'ada')).toMatchObject({ cancel: { by: 'ada' } })
      expect(await subject.store.beginPublish(id, 1)).toBe('cancel_requested')
    })

    it('is possible again in the attempt after one that moved tags', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.store.beginPublish(id, 1)
      await subject.claimed(id)
      expect(await subject.store.requestCancel(id, 'ada')).toMatchObject({ state: 'building', attempt: 2 })
    })

    it.each(['succeeded', 'failed', 'cancelled'] as const)(
      'of a build that has %s changes nothing',
      async (state) => {
        const { id } = await subject.accepted(push('main'))
        const before = await subject.ended(id, state === 'succeeded' ? succeeded() : failed('no', state))
        expect(await subject.store.requestCancel(id, 'ada')).toBeNull()
        expect(await subject.read(id)).toEqual(before)
      },
    )

    it('of a build that does not exist is null', async () => {
      expect(await subject.store.requestCancel('f'.repeat(36), 'ada')).toBeNull()
      expect(await subject.store.requestCancel('00000000-0000-4000-8000-000000000000', 'ada')).toBeNull()
      expect(await subject.store.requestCancel("'; drop table builds --", 'ada')).toBeNull()
    })

    it('by a name that no database can store', async () => {
      const { id } = await subject.accepted(push('main'))
      expect(await subject.store.requestCancel(id, 'a\0b\ud800')).toMatchObject({ cancel: { by: 'a�b�' } })
    })

    it('does not take a later request for the same commit with it', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.store.requestCancel(id, 'ada')
      const { build, outcome } = await subject.store.accept(push('main'))
      expect(outcome).toBe('created')
      expect(build.id).toMatch(UUID)
      expect(build).toMatchObject({ state: 'pending', refs: [{ name: 'main' }] })
      expect(build.cancel).toBeUndefined()
      expect(await subject.store.accept(push('dev'))).toMatchObject({
        outcome: 'joined',
        build: { id: build.id },
      })
      expect((await subject.store.newest('acme/app', request().sha))?.id).toBe(build.id)
      // Both are in flight: the first one ends by itself, the second one is built.
      expect((await subject.store.unfinished()).map((one) => one.id)).toEqual([id, build.id])
      await subject.store.finish(id, 1, 1, failed('cancelled by ada', 'cancelled'))
      expect((await subject.ended(build.id)).state).toBe('succeeded')
    })

    it('of several builds of one commit, one after another', async () => {
      for (let i = 0; i < 3; i++) {
        const { build, outcome } = await subject.store.accept(push('main'))
        expect(outcome).toBe('created')
        await subject.claimed(build.id)
        expect(await subject.store.requestCancel(build.id, `person ${i}`)).not.toBeNull()
      }
      const all = await subject.store.unfinished()
      expect(await subject.store.cancelRequests(all.map(({ id }) => id))).toHaveLength(3)
    })

    it('and the end of a build exclude each other, whatever else happens', async () => {
      type Step = 'cancel' | 'begin' | 'succeed' | 'fail' | 'release' | 'claim' | 'push' | 'end'
      const step = fc.constantFrom<Step>(
        'cancel',
        'begin',
        'succeed',
        'fail',
        'release',
        'claim',
        'push',
        'end',
      )
      let commits = 0
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { maxLength: 6 }),
          async (rounds) => {
            commits += 1
            const sha = commits.toString(16).padStart(40, '0')
            const { id } = await subject.accepted(push('main', { sha }))
            await subject.claimed(id)
            /** What each caller was told, in all rounds. */
            let promised = false
            let finished: string | undefined
            /** Requests that joined this build, or got another. */
            let others = 0
            for (const round of rounds) {
              // The attempt that the worker of this round believes in.
              const { attempt } = await subject.read(id)
              await Promise.all(
                round.map(async (one) => {
                  const { store } = subject
                  const end = async (result: Parameters<typeof store.finish>[3]) => {
                    if ((await store.finish(id, attempt, 100, result)) !== 'finished') return
                    expect(finished).toBeUndefined()
                    finished = result.state
                  }
                  if (one === 'cancel') promised = (await store.requestCancel(id, 'ada')) !== null || promised
                  if (one === 'begin') await store.beginPublish(id, attempt)
                  if (one === 'succeed' && typeof (await store.beginPublish(id, attempt)) === 'object')
                    await end(succeeded())
                  if (one === 'fail') await end(failed())
                  if (one === 'end' && (await store.cancelRequests([id])).length > 0)
                    await end(failed('cancelled by ada', 'cancelled'))
                  if (one === 'release') await store.release(id, attempt)
                  if (one === 'claim') await store.claim(id)
                  if (one === 'push') {
                    const { build } = await store.accept(push('dev', { sha }))
                    if (build.id !== id) others += 1
                  }
                }),
              )
            }
            const after = await subject.read(id)
            expect(after.cancel !== undefined).toBe(promised)
            if (finished) expect(after.state).toBe(finished)
            // A promise is kept, and nothing else is cancelled.
            if (isEnded(after.state)) expect(after.state === 'cancelled').toBe(promised)
            else if (promised) expect(after.state).toBe('building')
            const newest = await subject.store.newest('acme/app', sha)
            if (others > 0) expect(newest?.id).not.toBe(id)
            if (others > 0) expect(newest?.cancel).toBeUndefined()
          },
        ),
        { numRuns: 60 },
      )
    })
  })
}
