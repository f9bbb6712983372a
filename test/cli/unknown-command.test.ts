import { expect, test } from 'vitest'
import { nearest } from '../../src/lib/cli/nearest.ts'
import { runConveyor } from '../support/processes.ts'

const COMMANDS = ['bootstrap', 'build', 'doctor', 'server', 'worker']

test.each([
  ['serve', 'server'],
  ['srever', 'server'],
  ['Server', 'server'],
  ['workers', 'worker'],
  ['wrk', 'worker'],
  ['biuld', 'build'],
  ['builds', 'build'],
  ['docter', 'doctor'],
  ['boot', 'bootstrap'],
  ['bootsrap', 'bootstrap'],
  ['deploy', null],
  ['', null],
])('the command nearest to %j is %j', (typed, command) => {
  expect(nearest(typed, COMMANDS)).toBe(command)
})

test.each([
  [['serve', '--port', '0'], 'unknown command "serve". Did you mean "server"?'],
  [['biuld', 'acme/web:main'], 'unknown command "biuld". Did you mean "build"?'],
  [['deploy'], 'unknown command "deploy". Run conveyor --help for a list of commands.'],
])('`conveyor %s` is refused with a suggestion', async (args, message) => {
  const { code, stdout, stderr } = await runConveyor(args)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  // On one line, as it is not a terminal.
  expect(stderr).toContain(message)
})
