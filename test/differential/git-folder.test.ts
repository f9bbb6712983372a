import fc from 'fast-check'
import { expect, test } from 'vitest'
import { tempDir } from '../support/temp.ts'
import { Draw } from './generate/draw.ts'
import { histories } from './generate/histories.ts'
import { askHistory } from './git-folder.ts'

const CASES = 6

test('git says the same in contexts of generated repositories as in clones', async () => {
  const some = fc.sample(fc.tuple(histories({ isNew: true, clones: 60 }), fc.gen()), { seed: 2, numRuns: 10 })
  let cases = 0
  for (const [history, random] of some) {
    if (cases >= CASES) break
    await using folder = await tempDir()
    const asked = await askHistory(history, new Draw(random), folder.path)
    expect(asked.difference).toBe(null)
    cases += asked.cases - asked.failed
  }
  expect(cases).toBeGreaterThanOrEqual(CASES)
})
