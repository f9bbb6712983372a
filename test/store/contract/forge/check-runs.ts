import { describe, expect, it } from 'vitest'
import { OTHER_SHA, push, type Subject } from '../subject.ts'

/** Who makes the check run of a build. */
export function checkRuns(subject: Subject): void {
  describe('check runs', () => {
    it('are made by one caller at a time, and known to all afterwards', async () => {
      const { id } = await subject.accepted(push('main'))
      const { checkRuns: runs } = subject.store
      const asked = await Promise.all([runs.begin(id, 60), runs.begin(id, 60), runs.begin(id, 60)])
      expect(asked.filter((one) => one === 'busy')).toHaveLength(2)
      expect(asked).toContainEqual({ id: null, mayExist: false })
      // GitHub's ids are larger than 32 bits.
      await runs.settle(id, 42_000_000_042)
      await subject.reopen()
      expect(await subject.store.checkRuns.begin(id, 60)).toEqual({ id: 42_000_000_042 })
      await subject.store.checkRuns.settle(id, 'none')
      expect(await subject.store.checkRuns.begin(id, 60)).toEqual({ id: 42_000_000_042 })
    })

    it('may exist if whoever made them died or got no answer', async () => {
      const { id } = await subject.accepted(push('main'))
      const { checkRuns: runs } = subject.store
      await runs.begin(id, 60)
      subject.clock += 59_000
      expect(await runs.begin(id, 60)).toBe('busy')
      subject.clock += 1_000
      expect(await runs.begin(id, 60)).toEqual({ id: null, mayExist: true })
      await runs.settle(id, 'unknown')
      expect(await runs.begin(id, 60)).toEqual({ id: null, mayExist: true })
      await runs.settle(id, 'none')
      expect(await runs.begin(id, 60)).toEqual({ id: null, mayExist: false })
    })

    it('that the forge refused are not made again, not even if there was one', async () => {
      const { id } = await subject.accepted(push('main'))
      const { checkRuns: runs } = subject.store
      await runs.begin(id, 60)
      await runs.settle(id, 7)
      await runs.settle(id, 'refused')
      expect(await runs.begin(id, 60)).toBe('refused')
      expect(await runs.begin("no'id\0", 60)).toBe('refused')
    })

    it('are missing for builds that wait, and for which nobody began one', async () => {
      const early = await subject.accepted(push('main'))
      subject.clock += 5_000
      const late = await subject.accepted(push('main', { sha: OTHER_SHA }))
      const missing = async (seconds: number, limit = 10) =>
        (await subject.store.checkRuns.missing(seconds, limit)).map(({ id }) => id)
      expect(await missing(0)).toEqual([early.id, late.id])
      expect(await missing(3)).toEqual([early.id])
      expect(await missing(0, 1)).toEqual([early.id])
      await subject.store.checkRuns.begin(early.id, 60)
      expect(await missing(0)).toEqual([late.id])
      await subject.claimed(late.id)
      expect(await missing(0)).toEqual([])
    })
  })
}
