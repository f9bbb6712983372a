import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { excerptOf, type Step, type Timeline } from '../../../src/lib/core/timeline.ts'
import { Redactor } from '../../../src/lib/logs/redact.ts'
import { TimelineRecorder } from '../../../src/lib/pipeline/timeline/recorder.ts'
import { Stopwatch } from '../../../src/lib/util/stopwatch.ts'
import { build } from '../../support/build.ts'

const STEP: Step = {
  ...{ number: 4, name: '[2/2] RUN curl https://x/?t=hunter2-secret', digest: 'a', inputs: [] },
  ...{ startedAt: '2026-01-01T00:00:02.000Z', completedAt: '2026-01-01T00:00:03.000Z' },
  ...{ state: 'failed', error: 'curl hunter2-secret: exit code: 1' },
  warnings: [{ message: 'hunter2-secret', detail: ['hunter2-secret'], url: 'u', file: 'f', line: 1 }],
}

function recording({ fails = false, everyMs = 20 } = {}) {
  const stored: Timeline[] = []
  const warnings: string[] = []
  const redactor = new Redactor()
  redactor.add('hunter2-secret')
  const recorder = new TimelineRecorder(build(), {
    ...{ redactor, everyMs, warn: (line) => void warnings.push(line) },
    timelines: {
      async put(id, timeline) {
        if (fails) throw new Error('the store is away')
        // Under another id, it is not found.
        if (id === 'b') stored.push(timeline)
      },
      get: async () => null,
      summaries: async () => new Map(),
    },
  })
  const steps = { version: 1, list: () => [STEP], images: () => [] }
  return { recorder, stored, warnings, steps, watch: new Stopwatch(undefined, recorder) }
}

describe('TimelineRecorder', () => {
  test('records phases with real start times, and notes', async () => {
    const { recorder, watch, stored } = recording()
    const before = Date.now()
    await watch.measure('look up', sleep(30))
    await watch.measure('build', sleep(60), () => ({ phase: 'push', ms: 20 }))
    watch.note('build', '1 of 2 steps cached')
    await watch.measure('look up', sleep(1))
    await watch.measure('tag', Promise.reject(new Error('no'))).catch(() => {})
    await recorder.end()
    const { phases = [] } = stored.at(-1) ?? {}
    expect(phases.map(({ name }) => name)).toEqual(['queue', 'look up', 'build', 'push', 'look up', 'tags'])
    const [queue, lookup, built, push] = phases
    expect(queue).toEqual({ name: 'queue', startedAt: '2026-01-01T00:00:00.000Z', ms: 1000 })
    expect(built?.note).toBe('1 of 2 steps cached')
    const end = (phase = lookup) => Date.parse(phase?.startedAt ?? '') + (phase?.ms ?? 0)
    expect(Date.parse(lookup?.startedAt ?? '')).toBeGreaterThanOrEqual(before)
    expect(Date.parse(built?.startedAt ?? '')).toBeGreaterThanOrEqual(end(lookup) - 2)
    expect(Math.abs(Date.parse(push?.startedAt ?? '') - end(built))).toBeLessThanOrEqual(2)
    expect(push?.ms).toBe(20)
  })

  test('masks the secrets of the build everywhere', async () => {
    const { recorder, steps, stored } = recording()
    recorder.follow(steps)
    await recorder.end()
    expect(stored).toHaveLength(1)
    expect(JSON.stringify(stored)).not.toContain('hunter2')
    expect(stored[0]?.steps[0]).toMatchObject({ name: '[2/2] RUN curl https://x/?t=***', number: 4 })
    expect(stored[0]?.critical).toEqual([4])
  })

  test('keeps a few lines of the Dockerfile that failed, without secrets and within bounds', async () => {
    const { recorder, stored } = recording()
    const text = [
      'FROM x',
      'RUN curl hunter2-secret && \\',
      `  ${'x'.repeat(1e6)} && \\`,
      ...Array(40).fill(' y && \\'),
    ]
    const excerpt = excerptOf('hunter2-secret/Dockerfile', text.join('\n'), [{ first: 2, last: 43 }])
    if (!excerpt) throw new Error('no excerpt')
    recorder.failedAt(excerpt)
    await recorder.end()
    const kept = stored.at(-1)?.excerpt
    expect(JSON.stringify(kept)).not.toContain('hunter2')
    expect(kept?.lines.map(({ number }) => number)).toEqual(Array.from({ length: 15 }, (_, at) => at + 1))
    expect(kept?.more).toBe(28)
    expect(kept?.lines[2]?.text).toHaveLength(300)
    for (const range of [
      { first: 0, last: 1 },
      { first: 44, last: 44 },
      { first: Number.NaN, last: 2 },
    ]) {
      expect(excerptOf('f', text.join('\n'), [range])).toBeNull()
    }
    expect(excerptOf('f', 'FROM x', [])).toBeNull()
  })

  test('stores changes while the build runs, nothing without changes, and the end once', async () => {
    const { recorder, watch, steps, stored } = recording()
    const { promise, resolve } = Promise.withResolvers<void>()
    const fetching = watch.measure('fetch', promise)
    while (stored.length === 0) await sleep(5)
    expect(stored[0]?.phases.at(-1)).toMatchObject({ name: 'fetch', running: true })
    await sleep(100)
    expect(stored).toHaveLength(1)
    recorder.follow(steps)
    while (stored.length === 1) await sleep(5)
    resolve()
    await fetching
    await recorder.end()
    const ended = stored.length
    expect(stored.at(-1)?.phases.at(-1)).not.toHaveProperty('running')
    await sleep(60)
    expect(stored).toHaveLength(ended)
  })

  test('a store that fails is reported once, and fails nothing', async () => {
    const { recorder, watch, warnings } = recording({ fails: true })
    await watch.measure('fetch', sleep(100))
    await recorder.end()
    expect(warnings).toEqual(['its timeline could not be stored: the store is away'])
  })
})
