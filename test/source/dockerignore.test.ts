import { describe, expect, test } from 'vitest'
import { parseDockerignore } from '../../src/lib/source/context/dockerignore.ts'
import { listEntries } from '../../src/lib/source/context/entries.ts'
import type { TreeFile } from '../../src/lib/source/context/git-tree.ts'
import { Pace } from '../../src/lib/util/pace.ts'
// How Docker itself applied each ignore file; see support/record-dockerignore.ts.
import recorded from '../support/context/dockerignore-cases.json' with { type: 'json' }
import { longestTurn } from '../support/timing/longest-turn.ts'

const bytes = (path: string) => Buffer.from(path).toString('latin1').replaceAll('/', '\0')
const files: TreeFile[] = recorded.files
  .toSorted((a, b) => (bytes(a) < bytes(b) ? -1 : 1))
  .map((path) => ({ path, rawPath: Buffer.from(path), kind: 'file', oid: '', size: 0 }))

/** Paths of the context, in the recording's form. */
async function filtered(text: string): Promise<string[]> {
  const selection = await listEntries(files, await parseDockerignore(text), new Pace())
  const entries = await selection.entries(new Map(), new Map())
  return entries.map(({ path, kind }) => (kind === 'directory' ? `${path}/` : path)).sort()
}

describe('results recorded from Docker', () => {
  test('the recordings cover several kinds', async () => {
    expect(recorded.cases.length).toBeGreaterThan(450)
    expect(recorded.cases.filter(([, arrived]) => arrived === null).length).toBeGreaterThan(10)
    expect(recorded.cases.filter(([text]) => text?.includes('!')).length).toBeGreaterThan(150)
  })

  test.each(recorded.cases as [string, string | null][])('%j', async (text, arrived) => {
    if (arrived === null) {
      await expect(parseDockerignore(text)).rejects.toThrow('is not a valid pattern')
      return
    }
    expect(await filtered(text)).toEqual(recorded.paths.filter((_, i) => arrived[i] === '+'))
  })

  test('matching single paths gives the same results as the walk', async () => {
    for (const [text, arrived] of recorded.cases as [string, string | null][]) {
      if (arrived === null) continue
      const ignore = await parseDockerignore(text)
      const kept = recorded.files.filter((path) => !ignore.excludes(path))
      const expected = recorded.files.filter((path) => arrived[recorded.paths.indexOf(path)] === '+')
      expect(kept, text).toEqual(expected)
    }
  })
})

test('a bad pattern is named with its file and line', async () => {
  const text = 'ok\n# comment\n\nalso/ok\n  src/[a-  \n'
  await expect(parseDockerignore(text, 'app.Dockerfile.dockerignore')).rejects.toThrow(
    expect.objectContaining({
      kind: 'build_failed',
      retryable: false,
      message: 'app.Dockerfile.dockerignore, line 5: "src/[a-" is not a valid pattern',
    }),
  )
})

/** As in buildctl 0.18 with BuildKit 0.18. */
test("syntax of Go's regular expressions has the same meaning here", async () => {
  const ignore = await parseDockerignore('^x*\n\\d*\n*/^q\n*[?]\nc++\n(a|b)?\n^y\n')
  const excluded = ['xyz', '1a', '^]', '[]', 'c++/src', '(a|b)c', '^y']
  const kept = ['^xyz', 'd1', '[q]', '?', 'q]', 'z/^q', 'z/q', 'cc', 'y']
  expect([...excluded, ...kept].filter((path) => ignore.excludes(path))).toEqual(excluded)
})

test('whitespace around a pattern is trimmed twice, as in Go: when the line is read, and when it is cleaned', async () => {
  const excluded = async (text: string) => {
    const ignore = await parseDockerignore(text)
    return ['-,', '-, ', '\ufeffa', 'a'].filter((path) => ignore.excludes(path))
  }
  expect(await excluded('-, /.\r')).toEqual(['-,'])
  expect(await excluded('/ /\n')).toEqual([])
  expect(await excluded('a\n\ufeffa\u0085')).toEqual(['\ufeffa', 'a'])
})

test('a character outside the basic plane is one character', async () => {
  const ignore = await parseDockerignore('?.txt\n[😀-😂]\n*😎*\n')
  expect(ignore.excludes('😀.txt')).toBe(true)
  expect(ignore.excludes('😁')).toBe(true)
  expect(ignore.excludes('😃')).toBe(false)
  expect(ignore.excludes('a😎b')).toBe(true)
})

test('the verdict on an excluded directory is final exactly when no exception can match below it', async () => {
  const verdict = async (text: string, path: string) => (await parseDockerignore(text)).judge(path)
  expect(await verdict('node_modules', 'node_modules')).toMatchObject({ excluded: true, final: true })
  expect(await verdict('node_modules\n!src/keep', 'node_modules')).toMatchObject({
    excluded: true,
    final: true,
  })
  expect(await verdict('*\n!src/keep', 'src')).toMatchObject({ excluded: true, final: false })
  expect(await verdict('*\n!**/keep', 'src')).toMatchObject({ excluded: true, final: false })
  expect(await verdict('*\n!src', 'src')).toMatchObject({ excluded: false, final: false })
})

/** By fsutil's patternWithoutTrailingGlob, which takes both endings off. */
test('an exception that ends in both wildcards only leads as far as what precedes them', async () => {
  const kept = async (text: string) => {
    const ignore = await parseDockerignore(text)
    return ['docs/a', 'docs/a/b', 'docs/a/b/c', 'x/a'].filter((path) => !ignore.excludes(path))
  }
  expect(await kept('docs/*\n!docs/*/**')).toEqual(['x/a'])
  expect(await kept('docs\n!docs/*/**\n!docs/a/b/c')).toEqual(['docs/a/b', 'docs/a/b/c', 'x/a'])
  // One with another wildcard has everything walked.
  expect(await kept('docs/*\n!docs/*/**\n!?')).toEqual(['docs/a/b', 'docs/a/b/c', 'x/a'])
  expect(await kept('docs/*\n!docs/**/*')).toEqual(['docs/a', 'docs/a/b', 'docs/a/b/c', 'x/a'])
})

test('hostile patterns take time in proportion to their length', async () => {
  // A backtracking matcher would take longer than the age of the universe for either.
  const stars = await parseDockerignore(`${'*a'.repeat(40)}*b\n`)
  expect(stars.excludes('a'.repeat(250))).toBe(false)
  expect(stars.excludes(`${'a'.repeat(250)}b`)).toBe(true)
  const folders = await parseDockerignore(`${'**/a/'.repeat(30)}b\n`)
  expect(folders.excludes(`${'a/'.repeat(200)}c`)).toBe(false)
  expect(folders.excludes(`${'a/'.repeat(200)}b`)).toBe(true)
})

describe('hostile ignore files block the event loop no longer than others', () => {
  const many = (count: number, of: (i: number) => string) => Array.from({ length: count }, (_, i) => of(i))
  const file = (path: string): TreeFile => ({
    path,
    rawPath: Buffer.from(path),
    kind: 'file',
    oid: '',
    size: 0,
  })
  const ordinary = many(20_000, (i) => `d${i % 100}/name-${i}-abcabc.txt`).sort()
  const long = many(200, (i) => `${'a'.repeat(4080)}${i}`).sort()

  test.each<[string, string, string[], number]>([
    ['20,000 literal patterns', many(20_000, (i) => `nope/${i}`).join('\n'), ordinary, 20_000],
    ['20,000 that end otherwise', many(20_000, (i) => `**/*.x${i}`).join('\n'), ordinary, 20_000],
    ['2,000 without beginning and end', many(2000, (i) => `?*b${i}c*`).join('\n'), ordinary, 20_000],
    ['10,000 exceptions', `*\n${many(10_000, (i) => `!d${i % 100}/x${i}`).join('\n')}`, ordinary, 0],
    ['stars against long names', `${many(1000, () => '*a*b').join('\n')}\n${'*a'.repeat(400)}*b`, long, 200],
    ['classes against long names', `${'[a-c]'.repeat(800)}*${'[^x]'.repeat(800)}`, long, 0],
    [
      'paths that go back all the time',
      many(16, (i) => `${'a'.repeat(30_000 + i)}${'/b/..'.repeat(7000)}`).join('\n'),
      long,
      200,
    ],
    ['stars alone', many(16, (i) => '*'.repeat(65_000 + i)).join('\n'), ordinary, 0],
    ['long classes', many(16, (i) => `[${'a-b'.repeat(21_000)}${i}]`).join('\n'), ordinary, 20_000],
    ['classes with wildcards', many(16, (i) => `${'[?x]'.repeat(16_000)}${i}`).join('\n'), ordinary, 20_000],
  ])('%s', async (_, text, names, kept) => {
    const turn = longestTurn()
    const selection = await listEntries(names.map(file), await parseDockerignore(text), new Pace())
    expect(selection.files).toHaveLength(kept)
    expect(turn.ms()).toBeLessThan(250)
  })

  test('lines of 64 KiB are refused, as in Docker', async () => {
    const text = (bytes: number) => `a\n${'é'.repeat((bytes - 1) / 2)}b\n`
    await parseDockerignore(text(65_535))
    await expect(parseDockerignore(text(65_537))).rejects.toMatchObject({
      kind: 'build_failed',
      message: '.dockerignore, line 2 is longer than 64 KiB',
    })
  })

  test.each([
    ['many patterns with several wildcards', many(150_000, (i) => `**/${i}?*`).join('\n')],
    ['patterns that take too long for a long path', many(600, (i) => `${'*?'.repeat(200)}z${i}*`).join('\n')],
  ])('%s are refused', async (_, text) => {
    const turn = longestTurn()
    const work = async () => {
      const ignore = await parseDockerignore(text)
      await listEntries(long.map(file), ignore, new Pace())
    }
    await expect(work()).rejects.toMatchObject({
      kind: 'build_failed',
      message: '.dockerignore has too many patterns with several wildcards',
    })
    expect(turn.ms()).toBeLessThan(250)
  })

  test('one that alternates between patterns and exceptions is refused', async () => {
    const text = many(30_000, (i) => (i % 2 === 0 ? '*' : '!*')).join('\n')
    await expect(parseDockerignore(text)).rejects.toMatchObject({
      kind: 'build_failed',
      message: '.dockerignore switches between patterns and exceptions (!) more than 20000 times',
    })
  })
})
