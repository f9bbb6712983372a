import { globSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { projectRoot } from '../support/processes.ts'

const page = readFileSync(`${projectRoot}docs/errors.md`, 'utf8')
const sources = globSync(['src/**/*.ts', 'bin/*.js'], { cwd: projectRoot })
  .map((file) => readFileSync(`${projectRoot}${file}`, 'utf8'))
  .join('\n')

/** The entries of the page: the quoted text, and the explanation. */
const entries = page
  .split(/^### /m)
  .slice(1)
  .map((entry) => ({ quoted: /^`([^`\n]+)`$/m.exec(entry)?.[1] ?? '', entry }))

/** The parts of a quoted text that are Conveyor's own: `…` stands for names and details. */
function fixedParts(quoted: string): string[] {
  return quoted
    .split('…')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

test('twenty errors have a cause and a fix', () => {
  expect(entries).toHaveLength(20)
  for (const { quoted, entry } of entries) {
    expect(quoted, entry).not.toBe('')
    expect(entry).toMatch(/^- \*\*Cause\*\*: \S/m)
    expect(entry).toMatch(/^- \*\*Fix\*\*: \S/m)
  }
})

describe('the program prints what the page quotes', () => {
  test.each(entries)('$quoted', ({ quoted }) => {
    const parts = fixedParts(quoted)
    expect(parts.length).toBeGreaterThan(0)
    expect(parts.filter((part) => !sources.includes(part))).toEqual([])
  })

  test('a text that the program does not print would be noticed', () => {
    const missing = fixedParts('… is no such error, …').filter((part) => !sources.includes(part))
    expect(missing).toEqual(['is no such error,'])
  })
})
