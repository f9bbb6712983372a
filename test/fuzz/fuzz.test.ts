import { expect, test } from 'vitest'
import { projectRoot, start } from '../support/processes.ts'

/** Of all kinds together; `npm run fuzz` tries as many as one likes. */
const INPUTS = 4000
const SEED = 1

test(`${INPUTS} inputs of strangers, of seed ${SEED}, crash nothing and hold up nobody`, async () => {
  // In processes of their own, as vitest's has other lines than those of the sources, and memory of its own.
  const args = ['run', '--silent', 'fuzz', '--', '--inputs', `${INPUTS}`, '--seed', `${SEED}`]
  await using fuzz = await start('npm', args, { cwd: projectRoot })
  const { code } = await fuzz.exited
  expect(code, `${fuzz.stdout()}${fuzz.stderr()}`).toBe(0)
})
