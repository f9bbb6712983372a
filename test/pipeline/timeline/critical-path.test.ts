import { describe, expect, test } from 'vitest'
import type { Step } from '../../../src/lib/core/timeline.ts'
import { criticalPath } from '../../../src/lib/pipeline/timeline/critical-path.ts'
import { Chance } from '../../fuzz/generate/chance.ts'

function step(number: number, inputs: number[], from: number | null, to: number | null): Step {
  const iso = (ms: number | null) => (ms === null ? null : new Date(Date.UTC(2026, 0, 1) + ms).toISOString())
  const state = to === null ? 'running' : 'done'
  const times = { startedAt: iso(from), completedAt: iso(to) }
  return { number, name: '', digest: '', inputs, ...times, state, error: null, warnings: [] }
}

const lengthOf = ({ startedAt, completedAt }: Step) =>
  Date.parse(completedAt ?? '') - Date.parse(startedAt ?? '')

/** Every chain of inputs that ends at a step, from its first step on. */
function chainsTo(steps: Step[], last: Step): Step[][] {
  const inputs = last.inputs.map((number) => steps[number - 1] as Step)
  if (inputs.length === 0) return [[last]]
  return inputs.flatMap((input) => chainsTo(steps, input)).map((chain) => [...chain, last])
}

describe('the critical path', () => {
  test('is the longest of all chains, if steps start as soon as their inputs are there', () => {
    let branched = 0
    for (let seed = 0; seed < 400; seed += 1) {
      const chance = new Chance(`${seed}`)
      const ends: number[] = []
      const steps = Array.from({ length: chance.whole(1, 9) }, (_, at) => {
        const inputs = ends.flatMap((_, i) => (chance.percent(30) ? [i + 1] : []))
        const from = Math.max(0, ...inputs.map((input) => ends[input - 1] ?? 0))
        // Powers of two: no two chains are equally long.
        ends.push(from + 2 ** at * 10)
        return step(at + 1, inputs, from, from + 2 ** at * 10)
      })
      const chains = steps.flatMap((last) => chainsTo(steps, last))
      const total = (chain: Step[]) => chain.reduce((sum, one) => sum + lengthOf(one), 0)
      const longest = chains.toSorted((a, b) => total(b) - total(a))[0]
      if (chains.length > steps.length) branched += 1
      expect(criticalPath(steps), JSON.stringify(steps)).toEqual(longest?.map(({ number }) => number))
    }
    expect(branched).toBeGreaterThan(100)
  })

  test('is, of all chains to the last step, the one whose steps ended latest, if steps also waited for others', () => {
    for (let seed = 0; seed < 400; seed += 1) {
      const chance = new Chance(`${seed}`)
      const ends: number[] = []
      const steps = Array.from({ length: chance.whole(1, 8) }, (_, at) => {
        // The first one is the only one without inputs.
        const inputs = ends.flatMap((_, i) => (i === at - 1 || chance.percent(30) ? [i + 1] : []))
        const from = Math.max(0, ...inputs.map((input) => ends[input - 1] ?? 0)) + chance.whole(0, 3) * 100
        const to = from + chance.whole(0, 9) * 100 + at
        ends.push(to)
        return step(at + 1, inputs, from, to)
      })
      const last = steps.toSorted((a, b) =>
        (a.completedAt ?? '') < (b.completedAt ?? '') ? 1 : -1,
      )[0] as Step
      // Compared from the end.
      const key = (chain: Step[]) =>
        chain
          .toReversed()
          .map(({ completedAt }) => completedAt)
          .join()
      const latest = chainsTo(steps, last).toSorted((a, b) => (key(a) < key(b) ? 1 : -1))[0]
      expect(criticalPath(steps), JSON.stringify(steps)).toEqual(latest?.map(({ number }) => number))
    }
  })

  test('continues, from a step without inputs, with the one that ended last before it began', () => {
    const steps = [
      step(1, [], 0, 10),
      step(2, [], 10, 90),
      step(3, [], 90, 100),
      step(4, [], 90, 95),
      step(5, [3, 4], 100, 150),
      step(6, [], 160, 200),
    ]
    expect(criticalPath(steps)).toEqual([1, 2, 3, 5, 6])
  })

  test('leaves out steps that have not ended, and survives cycles', () => {
    expect(criticalPath([])).toEqual([])
    expect(criticalPath([step(1, [], 0, 10), step(2, [1], 10, null), step(3, [1], null, null)])).toEqual([1])
    expect(criticalPath([step(1, [2], 0, 5), step(2, [1], 5, 20), step(3, [3], 0, 1)])).toEqual([1, 2])
    expect(criticalPath([step(1, [2], 5, 5), step(2, [1], 5, 5)])).toEqual([2, 1])
  })
})
