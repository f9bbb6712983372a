import { expect, test } from 'vitest'
import { projectRoot, start } from '../support/processes.ts'

/** Of all kinds together; `npm run fuzz` tries as many as one likes. */
const INPUTS = 4000
const SEED = 1

test(`${INPUTS} inputs of strangers, of seed ${SEED}, crash nothing and hold up nobody`, async () => {
  // In a process of its own, as vitest's has other lines than those of the sources, and memory of its own.
  const args = ['--max-old-space-size=200', 'test/fuzz/cli.ts', '--inputs', `${INPUTS}`, '--seed', `${SEED}`]
  await using fuzz = await start(process.execPath, args, { cwd: projectRoot })
  const { code } = await fuzz.exited
  expect(code, `${fuzz.stdout()}${fuzz.stderr()}`).toBe(0)
})
