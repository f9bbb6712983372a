import { describe, expect, test } from 'vitest'
import { isTooLittle, merged, type Reached } from './coverage.ts'
import { Chance } from './generate/chance.ts'
import { type Kind, plain, type Subject, type Trial } from './kind.ts'
import { KINDS } from './kinds/index.ts'
import { runKind } from './run.ts'

/** Checks that the fuzzer finds problems. */

const PLAN = { seed: 1, from: 0, count: 20 }

function kindOf(run: (input: number) => void | Promise<void>, more: Partial<Subject> = {}): Kind {
  const draw = (chance: Chance): Trial => {
    const input = chance.whole(0, 9)
    return { shown: () => String(input), run: async () => run(input) }
  }
  const open = async () => ({ ...(await plain(draw)()), ...more })
  return { share: 1, least: 200, parsers: [], open }
}

describe('a problem is reported with its input', () => {
  test('an exception', async () => {
    const kind = kindOf((input) => {
      if (input === 7) throw new TypeError('seven')
    })
    const { findings, inputs } = await runKind('x', kind, PLAN)
    expect(findings.length).toBeGreaterThan(0)
    expect(findings[0]).toMatchObject({ what: expect.stringContaining('TypeError: seven'), input: '7' })
    expect(inputs).toBe(20)
  })

  test('a blocked event loop', async () => {
    const hold = () => {
      const until = process.threadCpuUsage().user + 300_000
      while (process.threadCpuUsage().user < until);
    }
    const kind = kindOf(async (input) => {
      await new Promise((resolve) => setTimeout(resolve, 5))
      if (input === 7) hold()
    })
    const { findings, longestMs } = await runKind('x', kind, PLAN)
    expect(findings[0]).toMatchObject({ what: expect.stringMatching(/^blocked the event loop for \d+ ms$/) })
    expect(longestMs).toBeGreaterThan(250)
  })

  test('too much memory', async () => {
    let peak = 100 * 2 ** 20
    const kind = kindOf((input) => {
      if (input === 7) peak = 401 * 2 ** 20
    })
    const { findings, memory } = await runKind('x', kind, PLAN, () => peak)
    expect(findings).toEqual([
      { index: 19, what: expect.stringMatching(/used too much memory: 401 MiB$/), input: expect.anything() },
    ])
    expect(memory).toBe(401 * 2 ** 20)
  })

  test('a problem reported by the subject', async () => {
    const { findings } = await runKind(
      'x',
      kindOf(() => {}, { problem: async () => 'the server is gone' }),
      PLAN,
    )
    expect(findings).toEqual([{ index: 19, what: 'the server is gone', input: expect.anything() }])
  })
})

test('the same name generates the same input, and another name a different one', () => {
  const bytes = (name: string) => new Chance(name).bytes(32).toString('hex')
  expect(bytes('dockerfile 1 5')).toBe(bytes('dockerfile 1 5'))
  expect(new Set(['dockerfile 1 5', 'dockerfile 1 6', 'dockerfile 2 5', 'tree 1 5'].map(bytes)).size).toBe(4)
})

// More inputs than the seeded run draws, for faults that are rare. Trees are left out: they are written to disk as
// they are drawn.
test.each(Object.entries(KINDS).filter(([name]) => name !== 'tree'))(
  'no input of %s breaks its generator',
  async (name, kind) => {
    await using subject = await kind.open()
    for (let index = 0; index < 3000; index += 1) {
      expect(() => subject.draw(new Chance(`${name} 1 ${index}`)), `input ${index}`).not.toThrow()
    }
  },
)

test('coverage of several processes is merged, and less than 90% is too little', () => {
  const reachedBut = (missed: number[]): Reached => ({
    file: 'a.ts',
    lines: 20,
    reached: 20 - missed.length,
    missed,
  })
  const [some, others] = [reachedBut([3, 4, 5, 6]), reachedBut([4, 5, 7])]
  expect([some, others].map(isTooLittle)).toEqual([true, true])
  const both = merged([some], [others])
  expect(both).toEqual([reachedBut([4, 5])])
  expect(both.map(isTooLittle)).toEqual([false])
})
