import { describe, expect, test } from 'vitest'
import { selectEntries } from '../src/lib/buildkit/follow-paths.ts'
import type { ContextEntry } from '../src/lib/source/source.ts'
import { memoryContext } from './support/memory-context.ts'

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

/** The paths that are sent, directories above them left out. */
function select(follow: string[], include: string[] = [], links: Record<string, string> = {}): string[] {
  const files = { ...FILES, ...Object.fromEntries(Object.keys(links).map((path) => [path, ''])) }
  const entries = memoryContext(files).entries.map(
    (entry): ContextEntry =>
      links[entry.path] === undefined
        ? entry
        : { ...entry, kind: 'symlink', linkTarget: Buffer.from(links[entry.path] ?? '') },
  )
  return selectEntries(entries, { follow, include }).map((entry) => entry.path)
}

const ALL = select([])

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
  ])('%s', (_, paths, expected) => {
    expect(select(paths)).toEqual(expected)
  })

  test('everything at the root is all there is, hidden files too', () => {
    expect(select(['*'])).toEqual(ALL)
    expect(select(['.'])).toEqual(ALL)
    expect(select(['/'])).toEqual(ALL)
  })

  test('patterns with ** match at any depth', () => {
    expect(select([], ['**/*.c'])).toEqual([
      'src',
      'src/lib',
      'src/lib/x.c',
      'src/main.c',
      'src-old',
      'src-old/y.c',
    ])
  })

  test('a symlink brings what it leads to', () => {
    expect(select(['link'], [], { link: 'docs/a.md' })).toEqual(['docs', 'docs/a.md', 'link'])
    expect(select(['d/main.c'], [], { d: '/src' })).toEqual(['d', 'src', 'src/main.c'])
    expect(select(['docs/up'], [], { 'docs/up': '../a.txt' })).toEqual(['a.txt', 'docs', 'docs/up'])
    expect(select(['l*'], [], { link: 'docs' })).toEqual(['docs', 'docs/a.md', 'link'])
  })

  test('symlinks in a circle, out of the context, or to nowhere end', () => {
    expect(select(['one'], [], { one: 'two', two: 'one' })).toEqual(['one', 'two'])
    expect(select(['out'], [], { out: '../../etc/passwd' })).toEqual(['out'])
    expect(select(['gone'], [], { gone: 'nope' })).toEqual(['gone'])
    expect(select(['loop/a.txt'], [], { loop: 'loop/loop' })).toEqual(['loop'])
  })

  test('with a pattern that is malformed, or may be, everything is sent: BuildKit says what is wrong', () => {
    expect(select(['a[', 'b'])).toEqual(ALL)
    expect(select(['[-]x'])).toEqual(ALL)
  })
})
