import { describe, expect, test } from 'vitest'
import { selectEntries } from '../../src/lib/buildkit/session/follow-paths.ts'
import type { ContextEntry } from '../../src/lib/source/source.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

const FILES = {
  Dockerfile: '',
  '.env': '',
  'a.txt': '',
  'conf/.htaccess': '',
  'conf/x': '',
  'copy(1).txt': '',
  'src/main.c': '',
  'src/lib/x.c': '',
  'src-old/y.c': '',
  'docs/a.md': '',
}

/** The paths that are sent, without their parent directories. */
async function select(
  follow: string[],
  include: string[] = [],
  links: Record<string, string> = {},
): Promise<string[]> {
  const files = { ...FILES, ...Object.fromEntries(Object.keys(links).map((path) => [path, ''])) }
  const entries = memoryContext(files).entries.map(
    (entry): ContextEntry =>
      links[entry.path] === undefined
        ? entry
        : { ...entry, kind: 'symlink', linkTarget: Buffer.from(links[entry.path] ?? '') },
  )
  return (await selectEntries(entries, { follow, include })).map((entry) => entry.path)
}

const ALL = await select([])

describe('selectEntries', () => {
  test.each<[string, string[], string[]]>([
    ['a file', ['a.txt'], ['a.txt']],
    [
      'a folder, with all below it and not its namesake',
      ['src'],
      ['src', 'src/lib', 'src/lib/x.c', 'src/main.c'],
    ],
    ['a file in a folder, with the folders above it', ['src/lib/x.c'], ['src', 'src/lib', 'src/lib/x.c']],
    ['slashes at both ends', ['/docs/'], ['docs', 'docs/a.md']],
    ['a wildcard, which stays within its part', ['*.txt'], ['a.txt', 'copy(1).txt']],
    ['a wildcard in the middle', ['s*/*.c'], ['src', 'src/main.c', 'src-old', 'src-old/y.c']],
    ['a wildcard takes names that begin with a dot', ['conf/*'], ['conf', 'conf/.htaccess', 'conf/x']],
    ['a wildcard beside parentheses', ['*(1).txt'], ['copy(1).txt']],
    ['a class, and an escaped character', ['[a-c].txt', '\\.env'], ['.env', 'a.txt']],
    ['a path that climbs out stays in the context', ['../a.txt'], ['a.txt']],
    ['nothing that matches', ['nope'], []],
    ['several', ['a.txt', 'docs'], ['a.txt', 'docs', 'docs/a.md']],
  ])('%s', async (_, paths, expected) => {
    expect(await select(paths)).toEqual(expected)
  })

  test('everything at the root means everything, including hidden files', async () => {
    expect(await select(['*'])).toEqual(ALL)
    expect(await select(['.'])).toEqual(ALL)
    expect(await select(['/'])).toEqual(ALL)
  })

  test('patterns with ** match at any depth', async () => {
    expect(await select([], ['**/*.c'])).toEqual([
      'src',
      'src/lib',
      'src/lib/x.c',
      'src/main.c',
      'src-old',
      'src-old/y.c',
    ])
  })

  /** By fsutil's patternWithoutTrailingGlob, which takes both endings off. */
  test('a pattern that ends in both wildcards only leads as far as what precedes them', async () => {
    expect(await select(['src/*/**'])).toEqual([])
    expect(await select(['src/*/**', 'docs/*'])).toEqual(['docs', 'docs/a.md'])
    expect(await select(['src/*/**', 'src/lib/x.c'])).toEqual(['src', 'src/lib', 'src/lib/x.c'])
    // One with another wildcard has everything walked.
    expect(await select(['src/*/**', '?'])).toEqual(['src', 'src/lib', 'src/lib/x.c'])
    expect(await select(['src/**'])).toEqual(['src', 'src/lib', 'src/lib/x.c', 'src/main.c'])
  })

  test('a symlink includes its target', async () => {
    expect(await select(['link'], [], { link: 'docs/a.md' })).toEqual(['docs', 'docs/a.md', 'link'])
    expect(await select(['d/main.c'], [], { d: '/src' })).toEqual(['d', 'src', 'src/main.c'])
    expect(await select(['docs/up'], [], { 'docs/up': '../a.txt' })).toEqual(['a.txt', 'docs', 'docs/up'])
    expect(await select(['l*'], [], { link: 'docs' })).toEqual(['docs', 'docs/a.md', 'link'])
  })

  test('circular, escaping and dangling symlinks terminate', async () => {
    expect(await select(['one'], [], { one: 'two', two: 'one' })).toEqual(['one', 'two'])
    expect(await select(['out'], [], { out: '../../etc/passwd' })).toEqual(['out'])
    expect(await select(['gone'], [], { gone: 'nope' })).toEqual(['gone'])
    expect(await select(['loop/a.txt'], [], { loop: 'loop/loop' })).toEqual(['loop'])
  })

  test('following symlinks is limited, and yields to the event loop; beyond the limit, everything is sent', async () => {
    const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`l${i}`, `n${i}`]))
    const entries = memoryContext(many).entries.map(
      (entry): ContextEntry =>
        entry.path.startsWith('l')
          ? { ...entry, kind: 'symlink', linkTarget: Buffer.from(`n${entry.path}`) }
          : entry,
    )
    const rest = 'a/'.repeat(2000)
    const turn = longestTurn()
    expect(await selectEntries(entries, { follow: [`*/*/${rest}x`], include: [] })).toHaveLength(20_000)
    expect(await selectEntries(entries, { follow: ['l*/x*/y'], include: [] })).toHaveLength(20_000)
    expect(await selectEntries(entries, { follow: ['l1*'], include: [] })).toHaveLength(11_111)
    expect(turn.ms()).toBeLessThan(250)
  })

  test.each([
    ['very many', Array.from({ length: 20_000 }, (_, i) => `*?${i}*`)],
    ['very long ones', ['[?x]'.repeat(65_000)]],
    ['many for a long path', Array.from({ length: 2000 }, (_, i) => `*?${i}*`)],
  ])('patterns that would take too long are not compared: %s', async (_, follow) => {
    const { entries } = memoryContext({ ['a'.repeat(4000)]: '', b: '' })
    const turn = longestTurn()
    expect(await selectEntries(entries, { follow, include: [] })).toHaveLength(2)
    expect(turn.ms()).toBeLessThan(250)
  })

  test('with a pattern that may be malformed, everything is sent, and BuildKit reports the error', async () => {
    expect(await select(['a[', 'b'])).toEqual(await select([]))
    expect(await select(['[-]x'])).toEqual(await select([]))
  })

  test('a wildcard in brackets is literal, and ^ is the beginning, as in Docker', async () => {
    const { entries } = memoryContext({ '?': '', '[]': '', a: '', '[^a]/b': '' })
    const select = async (...follow: string[]) =>
      (await selectEntries(entries, { follow, include: [] })).map(({ path }) => path)
    expect(await select('[?]')).toEqual(['[]'])
    expect(await select('[[]^a]/b', '[[]^a]')).toEqual([])
    expect(await select('[[]\\^a]/b')).toEqual(['[^a]', '[^a]/b'])
  })

  test.each<[string, string[], number, number]>([
    ['patterns', Array.from({ length: 100 }, (_, i) => `*a*a*a*z${i}`), 0, 0],
    ['links to patterns', ['*'], 300, 20_300],
  ])('hostile %s delay nothing', async (_, follow, links, expected) => {
    const names = Array.from({ length: 20_000 }, (_, i) => `${'a'.repeat(80)}${i}`)
    const targets = Array.from({ length: links }, (_, i): [string, string] => [
      `l${i}`,
      `${'?'.repeat(i + 1)}*`,
    ])
    const { entries } = memoryContext(
      Object.fromEntries([...names, ...targets.map(([name]) => name)].map((name) => [name, ''])),
    )
    const linkOf = new Map(targets)
    const all = entries.map((entry): ContextEntry => {
      const target = linkOf.get(entry.path)
      return target ? { ...entry, kind: 'symlink', linkTarget: Buffer.from(target) } : entry
    })
    const turn = longestTurn()
    expect(await selectEntries(all, { follow, include: [] })).toHaveLength(expected)
    expect(turn.ms()).toBeLessThan(250)
  })
})
