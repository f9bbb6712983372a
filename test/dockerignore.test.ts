import { describe, expect, test } from 'vitest'
import { listEntries } from '../src/lib/source/context-entries.ts'
import { parseDockerignore } from '../src/lib/source/dockerignore.ts'
import type { TreeFile } from '../src/lib/source/git-tree.ts'
// What Docker itself did with each ignore file; see support/record-dockerignore.ts.
import recorded from './support/dockerignore-cases.json' with { type: 'json' }

const bytes = (path: string) => Buffer.from(path).toString('latin1').replaceAll('/', '\0')
const files: TreeFile[] = recorded.files
  .toSorted((a, b) => (bytes(a) < bytes(b) ? -1 : 1))
  .map((path) => ({ path, rawPath: Buffer.from(path), kind: 'file', oid: '', size: 0 }))

/** Paths of the context, as the recording has them. */
function filtered(text: string): string[] {
  const entries = listEntries(files, parseDockerignore(text)).entries(new Map(), new Map())
  return entries.map(({ path, kind }) => (kind === 'directory' ? `${path}/` : path)).sort()
}

describe('what Docker recorded', () => {
  test('there is a recording, of several kinds', () => {
    expect(recorded.cases.length).toBeGreaterThan(450)
    expect(recorded.cases.filter(([, arrived]) => arrived === null).length).toBeGreaterThan(10)
    expect(recorded.cases.filter(([text]) => text?.includes('!')).length).toBeGreaterThan(150)
  })

  test.each(recorded.cases as [string, string | null][])('%j', (text, arrived) => {
    if (arrived === null) {
      expect(() => parseDockerignore(text)).toThrow('is not a valid pattern')
      return
    }
    expect(filtered(text)).toEqual(recorded.paths.filter((_, i) => arrived[i] === '+'))
  })

  test('one path at a time comes to the same as the walk', () => {
    for (const [text, arrived] of recorded.cases as [string, string | null][]) {
      if (arrived === null) continue
      const ignore = parseDockerignore(text)
      const kept = recorded.files.filter((path) => !ignore.excludes(path))
      const expected = recorded.files.filter((path) => arrived[recorded.paths.indexOf(path)] === '+')
      expect(kept, text).toEqual(expected)
    }
  })
})

test('a bad pattern is named with its file and line', () => {
  const text = 'ok\n# comment\n\nalso/ok\n  src/[a-  \n'
  expect(() => parseDockerignore(text, 'app.Dockerfile.dockerignore')).toThrow(
    expect.objectContaining({
      kind: 'build_failed',
      retryable: false,
      message: 'app.Dockerfile.dockerignore, line 5: "src/[a-" is not a valid pattern',
    }),
  )
})

test('characters that mean something to a regular expression only stand for themselves', () => {
  const ignore = parseDockerignore('^x*\n\\d*\nc++\n(a|b)?\n')
  expect(ignore.excludes('^xyz')).toBe(true)
  expect(ignore.excludes('xyz')).toBe(false)
  expect(ignore.excludes('d1')).toBe(true)
  expect(ignore.excludes('1d')).toBe(false)
  expect(ignore.excludes('c++/src')).toBe(true)
  expect(ignore.excludes('(a|b)c')).toBe(true)
})

test('a character outside the basic plane is one character', () => {
  const ignore = parseDockerignore('?.txt\n[😀-😂]\n*😎*\n')
  expect(ignore.excludes('😀.txt')).toBe(true)
  expect(ignore.excludes('😁')).toBe(true)
  expect(ignore.excludes('😃')).toBe(false)
  expect(ignore.excludes('a😎b')).toBe(true)
})

test('an excluded directory is final exactly when no exception can match below it', () => {
  const verdict = (text: string, path: string) => parseDockerignore(text).judge(path)
  expect(verdict('node_modules', 'node_modules')).toMatchObject({ excluded: true, final: true })
  expect(verdict('node_modules\n!src/keep', 'node_modules')).toMatchObject({ excluded: true, final: true })
  expect(verdict('*\n!src/keep', 'src')).toMatchObject({ excluded: true, final: false })
  expect(verdict('*\n!**/keep', 'src')).toMatchObject({ excluded: true, final: false })
  expect(verdict('*\n!src', 'src')).toMatchObject({ excluded: false, final: false })
})

test('hostile patterns take time in proportion to their length', () => {
  // A backtracking matcher would need more than the age of the universe for either.
  const stars = parseDockerignore(`${'*a'.repeat(40)}*b\n`)
  expect(stars.excludes('a'.repeat(250))).toBe(false)
  expect(stars.excludes(`${'a'.repeat(250)}b`)).toBe(true)
  const folders = parseDockerignore(`${'**/a/'.repeat(30)}b\n`)
  expect(folders.excludes(`${'a/'.repeat(200)}c`)).toBe(false)
  expect(folders.excludes(`${'a/'.repeat(200)}b`)).toBe(true)
})
