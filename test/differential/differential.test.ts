import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkHistory } from './check.ts'
import { EXAMPLES } from './generate/examples.ts'
import { runHistory } from './run.ts'
import { script } from './script.ts'
import { BUILDERS, type Surroundings, surround } from './surroundings.ts'

/** Commits of generated histories for each builder; `npm run differential` continues after them. */
const CASES = 10
const SEED = 1

describe.each(BUILDERS)('%s produces the same image as docker from a fresh checkout', (builder) => {
  let surroundings: Surroundings
  beforeAll(async () => {
    surroundings = await surround(builder)
  })
  afterAll(() => surroundings[Symbol.asyncDispose]())

  test.each(Object.entries(EXAMPLES))('%s', async (_, history) => {
    const run = await runHistory(history, surroundings)
    expect(run.difference).toBe(null)
    expect(run.cases).toBe(history.commits.length)
  })

  test(`generated repositories of seed ${SEED}`, { timeout: 900_000 }, async () => {
    let cases = 0
    for (let index = 0; cases < CASES; index++) {
      const checked = await checkHistory(surroundings, { seed: SEED, index, shrinkMs: 60_000 })
      cases += checked.cases
      if (checked.smallest)
        throw new Error(`history ${index}: ${checked.difference}\n${script(checked.smallest)}`)
    }
  })
})
