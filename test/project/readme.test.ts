import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { OPTIONS, type Option } from '../../src/lib/config/options.ts'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')

/** A row of the README's table of options. */
function row(flag: string, option: Option): string {
  const fallback = option.default ? `\`${option.default}\`` : ''
  const help = option.help.replaceAll('|', '\\|')
  return `| \`--${flag}\` | \`${option.env}\` | ${fallback.replaceAll('|', '\\|')} | ${help} |`
}

test('the table of options says what the program does', () => {
  const table = [
    '| flag | variable | default | meaning |',
    '|---|---|---|---|',
    ...Object.entries(OPTIONS).map(([flag, option]) => row(flag, option)),
  ].join('\n')
  expect(readme).toContain(table)
})

test('both commands come within the first screen', () => {
  const lines = readme.split('\n')
  expect(lines.findIndex((line) => line.includes('$ make demo'))).toBeLessThan(20)
  expect(lines.some((line) => line === '$ make test')).toBe(true)
})
