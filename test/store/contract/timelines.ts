import { describe, expect, it } from 'vitest'
import type { Phase, Step, Timeline } from '../../../src/lib/core/timeline.ts'
import { push, type Subject } from './subject.ts'

const STEP: Step = {
  number: 5,
  name: '[2/3] COPY . .',
  digest: `sha256:${'a'.repeat(64)}`,
  inputs: [3, 4],
  startedAt: '2030-01-02T03:04:05.678Z',
  completedAt: null,
  state: 'running',
  error: null,
  warnings: [{ message: 'old', detail: ['use \0 new\ud800'], url: null, file: 'Dockerfile', line: 2 }],
}
const TIMELINE: Timeline = {
  attempt: 1,
  phases: [{ name: 'fetch', startedAt: '2030-01-02T03:04:05.678Z', ms: 12.5, note: '7 entries' }],
  steps: [
    { ...STEP, number: 3, inputs: [] },
    { ...STEP, number: 4, inputs: [3] },
    { ...STEP, state: 'failed', error: 'exit code 1' },
  ],
  critical: [3, 5],
  missed: {
    step: 5,
    name: STEP.name,
    causes: [{ kind: 'file', path: 'a "b" ☃', change: 'mode' }],
    more: 2,
    comparedWith: null,
  },
  made: { instructions: ['FROM x'], bases: [{ name: 'x', digest: null }], settings: { network: 'abc' } },
}

/** Where the time of each build went. */
export function timelines(subject: Subject): void {
  describe('timelines', () => {
    const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value))

    it('come back as they were stored, also after a restart', async () => {
      const { id } = await subject.accepted(push('main'))
      expect(await subject.store.timelines.get(id)).toBeNull()
      await subject.store.timelines.put(id, TIMELINE)
      await subject.reopen()
      expect(await subject.store.timelines.get(id)).toEqual(TIMELINE)
      expect(await subject.store.timelines.get("no'id\0")).toBeNull()
    })

    it('are replaced by those of later attempts, and not by those of earlier ones', async () => {
      const { id } = await subject.accepted(push('main'))
      const put = (attempt: number, critical: number[]) =>
        subject.store.timelines.put(id, { ...TIMELINE, attempt, critical })
      await put(1, [3])
      await put(1, [4])
      expect(await subject.store.timelines.get(id)).toMatchObject({ attempt: 1, critical: [4] })
      await put(2, [5])
      await put(1, [3])
      expect(await subject.store.timelines.get(id)).toMatchObject({ attempt: 2, critical: [5] })
    })

    it('have summaries for lists: steps of the Dockerfile, cached ones, and whether an image was reused', async () => {
      const ids: string[] = []
      for (const digit of ['1', '2', '3']) {
        ids.push((await subject.accepted(push('main', { sha: digit.repeat(40) }))).id)
      }
      expect(new Set(ids).size).toBe(3)
      const [one = '', two = ''] = ids
      const { summaries } = subject.store.timelines
      const [fetch] = TIMELINE.phases
      const phases = (...names: Phase['name'][]) => names.map((name) => ({ ...(fetch as Phase), name }))
      const steps: Step[] = [
        STEP,
        { ...STEP, number: 6, state: 'cached' },
        // The log does not count these.
        { ...STEP, number: 1, name: '[internal] load build context' },
        { ...STEP, number: 2, name: '[1/3] FROM docker.io/library/node:24', state: 'cached' },
        { ...STEP, number: 9, name: 'exporting to image' },
      ]
      await subject.store.timelines.put(one, { ...TIMELINE, phases: phases('look up', 'tags'), steps: [] })
      await subject.store.timelines.put(two, { ...TIMELINE, phases: phases('look up', 'build'), steps })
      expect(await summaries([...ids, "no'id\0"])).toEqual(
        new Map([
          [one, { steps: 0, cached: 0, reused: true }],
          [two, { steps: 2, cached: 1, reused: false }],
        ]),
      )
      expect(await summaries([])).toEqual(new Map())
    })

    it('are limited to 500 steps, names of 300 characters, and 256 kB', async () => {
      const { id } = await subject.accepted(push('main'))
      const long = '☃'.repeat(4000)
      const warning = { message: long, detail: Array(50).fill(long), url: long, file: long, line: 1 }
      const steps = Array.from({ length: 2000 }, (_, at): Step => {
        const warnings = Array(20).fill(warning)
        return { ...STEP, number: at + 1, name: long, error: long, inputs: at === 0 ? [] : [at], warnings }
      })
      const few = { ...TIMELINE, steps: steps.map((step) => ({ ...step, error: null, warnings: [] })) }
      for (const timeline of [few, { ...TIMELINE, steps }]) {
        await subject.store.timelines.put(id, timeline)
        const stored = await subject.store.timelines.get(id)
        const numbers = new Set(stored?.steps.map(({ number }) => number))
        expect(numbers.size).toBeGreaterThan(20)
        expect(numbers.size).toBeLessThanOrEqual(500)
        expect(bytes(stored)).toBeLessThanOrEqual(256 * 1024)
        expect(stored?.steps.every(({ name }) => name.length <= 300)).toBe(true)
        expect(stored?.steps.flatMap(({ inputs }) => inputs).every((input) => numbers.has(input))).toBe(true)
      }
      const huge = { instructions: [long.repeat(100)], bases: [], settings: { [long.repeat(100)]: long } }
      await subject.store.timelines.put(id, { ...TIMELINE, made: huge })
      expect(bytes(await subject.store.timelines.get(id))).toBeLessThanOrEqual(256 * 1024)
    })
  })
}
