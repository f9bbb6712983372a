import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Subject } from './subject.ts'

export function movingTags(subject: Subject): void {
  describe('moveTags', () => {
    const image = 'registry.test/acme/app'

    /** Stands for the registry: which push each tag points at. */
    const tags = new Map<string, number>()
    beforeEach(() => tags.clear())

    function move(sequence: number, ...names: string[]): Promise<string[]> {
      const moves = names.map((tag) => ({ tag, sequence }))
      return subject.store.moveTags(image, moves, async (tag) => {
        await sleep(Math.random() * 5)
        tags.set(tag, sequence)
      })
    }

    it('moves tags forward and never back', async () => {
      expect(await move(5, 'main', 'latest')).toEqual(['main', 'latest'])
      expect(await move(3, 'dev', 'latest', 'main')).toEqual(['dev'])
      expect(await move(7, 'latest')).toEqual(['latest'])
      expect(Object.fromEntries(tags)).toEqual({ main: 5, latest: 7, dev: 3 })
    })

    it('moves a tag again from the same position, as a retry does', async () => {
      await move(5, 'main')
      expect(await move(5, 'main')).toEqual(['main'])
    })

    it('uses the newest of several positions for one tag, and puts it once', async () => {
      const put: string[] = []
      const moves = [9, 2, 8].map((sequence) => ({ tag: 'main', sequence }))
      expect(await subject.store.moveTags(image, moves, async (tag) => void put.push(tag))).toEqual(['main'])
      expect(put).toEqual(['main'])
      expect(await move(8, 'main')).toEqual([])
    })

    it('keeps the tags of different images separate', async () => {
      await move(5, 'main')
      const moved = await subject.store.moveTags(`${image}2`, [{ tag: 'main', sequence: 1 }], async () => {})
      expect(moved).toEqual(['main'])
    })

    it('puts in parallel', async () => {
      const running: string[] = []
      let all: () => void = () => {}
      const together = new Promise<void>((resolve) => {
        all = resolve
      })
      await subject.store.moveTags(
        image,
        [1, 2, 3].map((n) => ({ tag: `t${n}`, sequence: 1 })),
        async (tag) => {
          if (running.push(tag) === 3) all()
          await together
        },
      )
      expect(running).toEqual(['t1', 't2', 't3'])
    })

    it('records before it puts, so that an older push cannot overtake a failed move', async () => {
      const ends: string[] = []
      const failing = subject.store.moveTags(
        image,
        ['bad', 'slow', 'worse'].map((tag) => ({ tag, sequence: 5 })),
        async (tag) => {
          if (tag === 'slow') await sleep(50)
          ends.push(tag)
          if (tag !== 'slow') throw new Error(`cannot put ${tag}`)
        },
      )
      await expect(failing).rejects.toThrow('cannot put bad')
      expect(ends.toSorted()).toEqual(['bad', 'slow', 'worse'])
      expect(await move(4, 'bad')).toEqual([])
      expect(await move(5, 'bad')).toEqual(['bad'])
    })

    it('moves tags of one image one build at a time, and those of another in parallel', async () => {
      const order: string[] = []
      let letGo: () => void = () => {}
      const held = new Promise<void>((resolve) => {
        letGo = resolve
      })
      const first = subject.store.moveTags(image, [{ tag: 'a', sequence: 1 }], async () => {
        order.push('first begins')
        await held
        order.push('first ends')
      })
      const second = subject.store.moveTags(image, [{ tag: 'b', sequence: 1 }], async () => {
        order.push('second')
      })
      await subject.store.moveTags(`${image}2`, [{ tag: 'a', sequence: 1 }], async () => {
        order.push('other image')
      })
      letGo()
      await Promise.all([first, second])
      expect(order.indexOf('second')).toBeGreaterThan(order.indexOf('first ends'))
      expect(order.indexOf('other image')).toBeLessThan(order.indexOf('first ends'))
    })

    it('leaves every tag at its newest push, however moves overlap', async () => {
      const names = ['latest', 'main', 'dev']
      const order = Array.from({ length: 60 }, (_, i) => i + 1).toSorted(() => Math.random() - 0.5)
      await Promise.all(order.map((sequence) => move(sequence, ...names)))
      expect(Object.fromEntries(tags)).toEqual({ latest: 60, main: 60, dev: 60 })
    })
  })
}
