import { expect, test } from 'vitest'
import type { Step } from '../../../src/lib/core/timeline.ts'
import { differingLines, stepPairs } from '../../../src/lib/pipeline/timeline/compare.ts'
import { Chance } from '../../fuzz/generate/chance.ts'
import { threadTime } from '../../support/timing/thread-time.ts'

/** The most lines that two lists have in common, in order: every subset of one is tried. */
function mostInCommon(a: string[], b: string[]): number {
  let most = 0
  for (let subset = 0; subset < 2 ** a.length; subset += 1) {
    const some = a.filter((_, i) => subset & (1 << i))
    let at = 0
    for (const line of b) if (line === some[at]) at += 1
    if (at === some.length) most = Math.max(most, some.length)
  }
  return most
}

test('lines are aligned so that as many as possible are the same, and none is lost', () => {
  for (let seed = 0; seed < 300; seed += 1) {
    const chance = new Chance(`${seed}`)
    const draw = () => chance.times(0, 7, () => chance.one(['a', 'b', 'c', 'd']))
    const [a, b] = [draw(), draw()]
    const pairs = differingLines(a, b)
    const [left, right] = [pairs.flatMap((pair) => pair.a ?? []), pairs.flatMap((pair) => pair.b ?? [])]
    const common = mostInCommon(a, b)
    expect([left.length, right.length], JSON.stringify([a, b])).toEqual([
      a.length - common,
      b.length - common,
    ])
    const isWithin = (some: string[], all: string[]) => {
      let at = 0
      for (const line of all) if (line === some[at]) at += 1
      return at === some.length
    }
    expect(isWithin(left, a) && isWithin(right, b)).toBe(true)
  }
})

test('lists that are too long to align are compared by position', () => {
  const a = Array.from({ length: 20_000 }, (_, i) => `a${i}`)
  expect(differingLines(a, ['x', ...a.slice(1, -1), 'y'])).toHaveLength(20_000)
  expect(differingLines(a, ['x', ...a.slice(1)])).toEqual([{ a: 'a0', b: 'x' }])
})

test('steps are paired by their names, whatever their numbers', () => {
  const steps = (...names: string[]) => ({
    steps: names.map((name, at) => ({
      number: at + 1,
      name,
      state: 'done',
      startedAt: null,
      completedAt: null,
    })),
  })
  const pairs = stepPairs(
    steps('[build 2/5] RUN x', '[3/5] RUN y', '[linux/amd64 a 1/1] RUN z') as unknown as { steps: Step[] },
    steps('[build 3/6] RUN x', '[4/6] RUN y', '[linux/amd64 a 2/2] RUN z', 'new') as unknown as {
      steps: Step[]
    },
  )
  expect(pairs.map(({ a, b }) => [a?.number ?? null, b?.number ?? null])).toEqual([
    [1, 1],
    [2, 2],
    [3, 3],
    [null, 4],
  ])
})

test('names of digits do not take long', () => {
  const named = Array.from({ length: 100 }, (_, at) => ({
    number: at,
    name: `[a${'1'.repeat(10_000)} ${at}`,
  }))
  const steps = { steps: named as unknown as Step[] }
  const taken = threadTime()
  expect(stepPairs(steps, steps)).toHaveLength(100)
  expect(taken()).toBeLessThan(2000)
})
