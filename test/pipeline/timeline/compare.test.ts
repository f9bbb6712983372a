import { expect, test } from 'vitest'
import { differingLines } from '../../../src/lib/pipeline/timeline/compare.ts'
import { Chance } from '../../fuzz/generate/chance.ts'

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
