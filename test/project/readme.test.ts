import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { projectRoot } from '../support/processes.ts'

test('the README shows how to try and how to test it, the former on the first screen', () => {
  const lines = readFileSync(`${projectRoot}README.md`, 'utf8').split('\n')
  expect(lines.findIndex((line) => line.includes('$ make demo'))).toBeLessThan(20)
  expect(lines.some((line) => line === '$ make test')).toBe(true)
})
