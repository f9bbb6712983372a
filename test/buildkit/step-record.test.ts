import { describe, expect, test } from 'vitest'
import type { StatusResponse, Vertex } from '../../src/lib/buildkit/gen/status.ts'
import { Progress } from '../../src/lib/buildkit/progress.ts'
import { StepRecord } from '../../src/lib/buildkit/steps/step-record.ts'
import { drawStatus } from '../fuzz/generate/buildkit-messages.ts'
import { Chance } from '../fuzz/generate/chance.ts'

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000)

function vertex(digest: string, name: string, rest: Partial<Vertex> = {}): Vertex {
  const times = { started: undefined, completed: undefined }
  return { digest, name, inputs: [], cached: false, ...times, error: '', ...rest }
}

function recorded(...messages: Partial<StatusResponse>[]): StepRecord {
  const record = new StepRecord()
  for (const one of messages) record.add({ vertexes: [], statuses: [], logs: [], warnings: [], ...one })
  return record
}

describe('StepRecord', () => {
  test('has inputs by number, times, results and warnings', () => {
    const run = vertex('r', '[2/3] RUN make', { inputs: ['f', 'f', 'nowhere'], started: at(1) })
    const record = recorded(
      { vertexes: [vertex('f', '[1/3] FROM base', { started: at(0), completed: at(0), cached: true })] },
      { vertexes: [run, vertex('waits', '[3/3] RUN later', { inputs: ['r'] })] },
      {
        vertexes: [vertex('x', '[b 1/1] RUN x', { started: at(2), completed: at(3), error: 'exit code: 1' })],
        warnings: [
          {
            ...{ vertex: 'r', level: 1n, short: Buffer.from('old'), detail: [Buffer.from('do this')] },
            ...{ url: 'https://docs.example', info: { filename: 'Dockerfile' } },
            ranges: [{ start: { line: 3, character: 0 }, end: { line: 3, character: 0 } }],
          },
        ],
      },
    )
    const [from, make, x, ...more] = record.list(false)
    expect(more).toEqual([])
    expect(from).toMatchObject({ number: 1, state: 'cached', inputs: [], error: null, warnings: [] })
    expect(make).toEqual({
      ...{ number: 2, name: '[2/3] RUN make', digest: 'r', inputs: [1], state: 'running', error: null },
      ...{ startedAt: '2026-01-01T00:00:01.000Z', completedAt: null },
      warnings: [
        { message: 'old', detail: ['do this'], url: 'https://docs.example', file: 'Dockerfile', line: 3 },
      ],
    })
    expect(x).toMatchObject({ number: 4, state: 'failed', error: 'exit code: 1' })
    expect(record.list(true)[1]).toMatchObject({ state: 'cancelled', completedAt: null })
    record.add({
      ...{ statuses: [], logs: [], warnings: [] },
      vertexes: [{ ...run, completed: at(4), error: 'failed: context canceled' }],
    })
    expect(record.list(false)[1]).toMatchObject({
      state: 'cancelled',
      startedAt: '2026-01-01T00:00:01.000Z',
      completedAt: '2026-01-01T00:00:04.000Z',
    })
  })

  test('a step that is reported in several parts lasts from the first to the last', () => {
    const [step] = recorded(
      { vertexes: [vertex('f', 'FROM x', { started: at(0), completed: at(1) })] },
      { vertexes: [vertex('f', 'FROM x', { started: at(2) })] },
      { vertexes: [vertex('f', 'FROM x', { started: at(2), completed: at(3), cached: true })] },
    ).list(false)
    expect(step).toMatchObject({
      ...{ state: 'cached', startedAt: at(0).toISOString(), completedAt: at(3).toISOString() },
    })
  })

  test('numbers are those of the log, whatever BuildKit sends, and texts are limited', () => {
    for (let seed = 0; seed < 150; seed += 1) {
      const chance = new Chance(`${seed}`)
      const [progress, record] = [new Progress(), new StepRecord()]
      let log = ''
      for (let messages = chance.whole(1, 4); messages > 0; messages -= 1) {
        const message = drawStatus(chance)
        // Fabricated output belongs to steps that have not started, too.
        Object.assign(message, { logs: [], statuses: [] })
        log += Buffer.concat([...progress.render(message)]).toString()
        record.add(message)
      }
      const numbers = new Set([...log.matchAll(/^#(\d+) /gm)].map(([, number]) => Number(number)))
      const steps = record.list(true)
      const ours = new Set(steps.map(({ number }) => number))
      for (const number of ours) if (!numbers.has(number)) throw new Error(`#${number} is not in the log`)
      const missing = [...numbers].filter((number) => !ours.has(number))
      if (missing.some((number) => number <= 2000)) throw new Error(`${missing} are only in the log`)
      for (const { startedAt, name, inputs } of steps) {
        expect(name.length).toBeLessThanOrEqual(16 * 1024)
        if (startedAt !== null) expect(new Date(startedAt).toISOString()).toBe(startedAt)
        expect(inputs.every((input) => input <= 3000)).toBe(true)
      }
    }
  })

  test('what ran in an aborted try did not come from the cache', () => {
    const before = recorded({
      vertexes: [
        vertex('ran', '[2/5] RUN a', { started: at(1), completed: at(2) }),
        vertex('running', '[3/5] RUN b', { started: at(2) }),
        vertex('cached', '[4/5] RUN c', { started: at(2), completed: at(2), cached: true }),
        vertex('failed', '[5/5] RUN d', { started: at(2), completed: at(3), error: 'context canceled' }),
      ],
    })
    const record = new StepRecord(before)
    const found = { started: at(10), completed: at(10), cached: true }
    record.add({
      ...{ statuses: [], logs: [], warnings: [] },
      vertexes: ['ran', 'running', 'cached', 'failed', 'new'].map((digest) => vertex(digest, digest, found)),
    })
    const steps = record.list(false)
    expect(steps.map(({ digest, state }) => [digest, state])).toEqual([
      ['ran', 'done'],
      ['running', 'done'],
      ['cached', 'cached'],
      ['failed', 'cached'],
      ['new', 'cached'],
    ])
    expect(steps[0]).toMatchObject({ startedAt: at(1).toISOString(), completedAt: at(2).toISOString() })
    expect(steps[1]).toMatchObject({ startedAt: at(2).toISOString(), completedAt: at(10).toISOString() })
  })
})
