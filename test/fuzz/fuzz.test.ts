import { expect, test } from 'vitest'
import { projectRoot, start } from '../support/processes.ts'

/** Of all kinds together; `npm run fuzz` runs any number. */
const INPUTS = 4000
const SEED = 1

test(`${INPUTS} hostile inputs with seed ${SEED} cause no crash and block nothing`, async () => {
  // In separate processes: vitest transforms the sources, which changes their lines, and uses memory itself.
  const args = ['run', '--silent', 'fuzz', '--', '--inputs', `${INPUTS}`, '--seed', `${SEED}`]
  await using fuzz = await start('npm', args, { cwd: projectRoot })
  const { code } = await fuzz.exited
  expect(code, `${fuzz.stdout()}${fuzz.stderr()}`).toBe(0)
})
