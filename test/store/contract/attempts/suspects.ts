import { describe, expect, it } from 'vitest'
import { OTHER_SHA, push, type Subject, succeeded } from '../subject.ts'

/** What happens to builds whose worker died. Each opened store is a separate worker. */
export function suspects(subject: Subject): void {
  describe('an interrupted build', () => {
    async function twoThatRun(): Promise<[string, string]> {
      const one = await subject.accepted(push('main'))
      const other = await subject.accepted(push('dev', { sha: OTHER_SHA }))
      for (const { id } of [one, other]) await subject.claimed(id)
      return [one.id, other.id]
    }

    it('that ran alone: the attempt counts, and it is no suspect', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.claimed(id)
      await subject.reopen()
      const again = await subject.claimed(id)
      expect(again).toMatchObject({ attempt: 2 })
      expect([again.spared, again.suspect]).toEqual([undefined, undefined])
    })

    it('that ran with another one: both are suspects, and the attempts do not count', async () => {
      const both = await twoThatRun()
      await subject.reopen()
      for (const id of both) {
        expect(await subject.claimed(id)).toMatchObject({ attempt: 2, spared: 1, suspect: true })
      }
    })

    it('that ran with one that had already ended: the attempt counts', async () => {
      const [one, other] = await twoThatRun()
      await subject.store.finish(other, 1, 1, succeeded())
      await subject.reopen()
      expect((await subject.claimed(one)).spared).toBeUndefined()
    })

    it('that was a suspect: the attempt counts if it had started, but not if it was still waiting', async () => {
      const [one, other] = await twoThatRun()
      await subject.reopen()
      await subject.claimed(one)
      await subject.claimed(other)
      expect(await subject.store.begin(one, 2)).toBe(true)
      await subject.reopen()
      expect(await subject.claimed(other)).toMatchObject({ attempt: 3, spared: 2, suspect: true })
      expect(await subject.claimed(one)).toMatchObject({ attempt: 3, spared: 1, suspect: true })
    })

    it('is a suspect until it has ended, even when it is released', async () => {
      const [one] = await twoThatRun()
      await subject.reopen()
      await subject.claimed(one)
      await subject.store.release(one, 2, { counts: false })
      expect(await subject.claimed(one)).toMatchObject({ attempt: 2, spared: 1, suspect: true })
    })

    it('that its own worker takes over, as after an outage of the store: none is a suspect', async () => {
      const both = await twoThatRun()
      for (const id of both) {
        const again = await subject.claimed(id)
        expect(again).toMatchObject({ attempt: 2 })
        expect([again.spared, again.suspect]).toEqual([undefined, undefined])
      }
      for (const id of both) expect((await subject.read(id)).suspect).toBeUndefined()
    })

    it('that was a suspect, and that its own worker takes over: it is still one, but no other is', async () => {
      const [one, other] = await twoThatRun()
      await subject.reopen()
      await subject.claimed(one)
      await subject.store.begin(one, 2)
      const third = await subject.accepted(push('third', { sha: 'c'.repeat(40) }))
      await subject.claimed(third.id)
      expect(await subject.claimed(one)).toMatchObject({ attempt: 3, spared: 1, suspect: true })
      expect((await subject.read(third.id)).suspect).toBeUndefined()
      expect(await subject.read(other)).toMatchObject({ suspect: true })
    })

    it('does not start when another worker has taken it over', async () => {
      const [one] = await twoThatRun()
      await subject.claimed(one)
      expect(await subject.store.begin(one, 1)).toBe(false)
      expect(await subject.store.begin(one, 2)).toBe(true)
    })
  })
}
