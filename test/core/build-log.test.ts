import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlainLog, parseRow } from '../../src/lib/core/build-log/plain-log.ts'
import { LogRows, MAX_ROW } from '../../src/lib/core/build-log/rows.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

/** The rows of a log that comes in these chunks. */
function rowsOf(chunks: Uint8Array[]): Uint8Array[] {
  const rows = new LogRows()
  const all = chunks.flatMap((chunk) => [...rows.push(chunk)])
  const last = rows.end()
  return last ? [...all, last] : all
}

function cut(all: Uint8Array, at: number[]): Uint8Array[] {
  const places = [...new Set(at.map((place) => place % (all.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((from, i) => all.subarray(from, places[i] ?? all.length))
}

describe('rows of a log', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 50 }),
    fc.constantFrom('\n', '\n\n', 'é', '🏗', '\r\n', 'a'.repeat(40_000), '🏗'.repeat(9000)).map(bytes),
  )

  it('do not depend on the chunks that the log comes in, and contain every byte', () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 8 }), (pieces, at) => {
        const all = Buffer.concat(pieces)
        const whole = rowsOf([all])
        expect(rowsOf(cut(all, at)).map((row) => Buffer.from(row))).toEqual(
          whole.map((row) => Buffer.from(row)),
        )
        const kept = Buffer.concat(whole.map((row) => Buffer.from(row))).toString('latin1')
        expect(kept).toBe(all.toString('latin1').replaceAll('\n', ''))
        for (const row of whole) expect(row.length).toBeLessThanOrEqual(MAX_ROW)
        const counted = new LogRows()
        const count = cut(all, at).reduce((sum, chunk) => sum + counted.count(chunk), 0)
        expect(count + (counted.pending > 0 ? 1 : 0)).toBe(whole.length)
      }),
      { numRuns: 300 },
    )
  })

  it('are the lines of a text if none is long', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        const valid = text.toWellFormed()
        const lines = valid.split('\n')
        if (lines.at(-1) === '') lines.pop()
        expect(
          rowsOf([bytes(valid)]).map((row) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(row)),
        ).toEqual(lines)
      }),
    )
  })

  it('end between characters in a long line', () => {
    const rows = rowsOf([bytes(`a${'🏗'.repeat(20_000)}`)])
    expect(rows.length).toBe(3)
    for (const row of rows) expect(() => new TextDecoder('utf-8', { fatal: true }).decode(row)).not.toThrow()
  })
})

describe('a row', () => {
  const parsed = (text: string) => {
    const row = parseRow(bytes(text))
    return 'text' in row ? { ...row, text: new TextDecoder().decode(row.text) } : row
  }

  it.each([
    ['#5 0.123 text', { kind: 'output', step: 5, seconds: 0.123, text: 'text' }],
    ['#5 12.000 ', { kind: 'output', step: 5, seconds: 12, text: '' }],
    ['#12 [2/4] RUN make', { kind: 'detail', step: 12, text: '[2/4] RUN make' }],
    ['#5 DONE 1.2s', { kind: 'end', step: 5, state: 'done', seconds: 1.2, error: null }],
    ['#5 DONE', { kind: 'end', step: 5, state: 'done', seconds: null, error: null }],
    ['#5 CACHED', { kind: 'end', step: 5, state: 'cached', seconds: null, error: null }],
    ['#5 CANCELED', { kind: 'end', step: 5, state: 'cancelled', seconds: null, error: null }],
    [
      '#5 ERROR: exit code: 1',
      { kind: 'end', step: 5, state: 'failed', seconds: null, error: 'exit code: 1' },
    ],
    ['#5 0.1 text', { kind: 'detail', step: 5, text: '0.1 text' }],
    ['#5', { kind: 'note', text: '#5' }],
    ['#12345678 x', { kind: 'note', text: '#12345678 x' }],
    ['tags main, latest', { kind: 'note', text: 'tags main, latest' }],
    ['', { kind: 'note', text: '' }],
  ])('%j', (text, expected) => {
    expect(parsed(text)).toEqual(expected)
  })

  it('has the whole error of a step, however long its command is', () => {
    const error = `process "/bin/sh -c ${'make && '.repeat(1000)}test" did not complete successfully: exit code: 100`
    expect(parsed(`#9 ERROR: ${error}`)).toEqual({
      kind: 'end',
      step: 9,
      state: 'failed',
      seconds: null,
      error,
    })
  })
})

describe('the steps of a log', () => {
  const SHA = 'a'.repeat(40)
  const stepsOf = (text: string) => {
    const log = new PlainLog()
    for (const row of rowsOf([bytes(text)])) log.take(row)
    return log
  }

  it('have names, states, durations and rows, also if their lines are mixed', () => {
    const { steps } = stepsOf(`building acme/web@${SHA} (branch main)

#1 [1/3] FROM node
#1 CACHED

#2 [2/3] RUN make
#2 0.500 one

#3 [3/3] RUN test
#3 0.100 #2 ERROR: not an error of this step

#2 [2/3] RUN make
#2 DONE 0.9s

#3 [3/3] RUN test
#3 1.500 DONE 9.0s
#3 ERROR: exit code: 1

#4 exporting
`)
    expect(steps).toEqual([
      {
        attempt: 1,
        number: 1,
        name: '[1/3] FROM node',
        state: 'cached',
        seconds: null,
        error: null,
        first: 3,
        last: 4,
      },
      {
        attempt: 1,
        number: 2,
        name: '[2/3] RUN make',
        state: 'done',
        seconds: 0.9,
        error: null,
        first: 6,
        last: 13,
      },
      {
        attempt: 1,
        number: 3,
        name: '[3/3] RUN test',
        state: 'failed',
        seconds: 1.5,
        error: 'exit code: 1',
        first: 9,
        last: 17,
      },
      {
        attempt: 1,
        number: 4,
        name: 'exporting',
        state: 'running',
        seconds: null,
        error: null,
        first: 19,
        last: 19,
      },
    ])
  })

  it('are numbered again in each attempt', () => {
    const log = stepsOf(`building acme/web@${SHA}

#1 [1/2] FROM node
#1 0.100 x

error: lost the connection
trying again in 5 s

building acme/web@${SHA}
attempt 2 of 3

#1 [1/2] FROM node
#1 DONE 0.1s
`)
    expect(log.steps.map(({ attempt, number, state }) => [attempt, number, state])).toEqual([
      [1, 1, 'cancelled'],
      [2, 1, 'done'],
    ])
    expect([1, 8, 9, 12].map((row) => log.attemptOf(row))).toEqual([1, 1, 2, 2])
  })

  it('does not take the name of a step for its end', () => {
    const { steps } = stepsOf('\n#1 ERROR: odd name\n#1 0.100 x\n\n#1 ERROR: odd name\n#1 DONE 0.2s\n')
    expect(steps).toMatchObject([{ name: 'ERROR: odd name', state: 'done' }])
  })
})
