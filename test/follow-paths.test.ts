import { describe, expect, test } from 'vitest'
import { followPaths } from '../src/lib/buildkit/follow-paths.ts'
import type { ContextEntry } from '../src/lib/source/source.ts'
import { memoryContext } from './support/memory-context.ts'

const FILES = {
  Dockerfile: '',
  'a.txt': '',
  'src/main.c': '',
  'src/lib/x.c': '',
  'src-old/y.c': '',
  'docs/a.md': '',
}

function follow(paths: string[], links: Record<string, string> = {}): string[] {
  const files = { ...FILES, ...Object.fromEntries(Object.keys(links).map((path) => [path, ''])) }
  const entries = memoryContext(files).entries.map(
    (entry): ContextEntry =>
      links[entry.path] === undefined
        ? entry
        : { ...entry, kind: 'symlink', linkTarget: Buffer.from(links[entry.path] ?? '') },
  )
  return followPaths(entries, paths).map((entry) => entry.path)
}

describe('followPaths', () => {
  test.each([
    ['a file', ['a.txt'], ['a.txt']],
    [
      'a folder, with all below it and not its namesake',
      ['src'],
      ['src', 'src/lib', 'src/lib/x.c', 'src/main.c'],
    ],
    ['a file in a folder, with the folders above it', ['src/lib/x.c'], ['src', 'src/lib', 'src/lib/x.c']],
    ['slashes at both ends', ['/docs/'], ['docs', 'docs/a.md']],
    ['a wildcard, which stays within its part', ['*.txt'], ['a.txt']],
    ['a wildcard in the middle', ['s*/*.c'], ['src', 'src/main.c', 'src-old', 'src-old/y.c']],
    ['a path that climbs out stays in the context', ['../a.txt'], ['a.txt']],
    ['nothing that matches', ['nope'], []],
    ['several', ['a.txt', 'docs'], ['a.txt', 'docs', 'docs/a.md']],
  ])('%s', (_, paths, expected) => {
    expect(follow(paths)).toEqual(expected)
  })

  test('the root is everything, in the order of the walk', () => {
    expect(follow(['.'])).toEqual(follow(['/']))
    expect(follow(['.'])).toHaveLength(10)
  })

  test('a symlink brings what it leads to', () => {
    expect(follow(['link'], { link: 'docs/a.md' })).toEqual(['docs', 'docs/a.md', 'link'])
    expect(follow(['d/main.c'], { d: '/src' })).toEqual(['d', 'src', 'src/main.c'])
    expect(follow(['docs/up'], { 'docs/up': '../a.txt' })).toEqual(['a.txt', 'docs', 'docs/up'])
  })

  test('symlinks in a circle, out of the context, or to nowhere end', () => {
    expect(follow(['one'], { one: 'two', two: 'one' })).toEqual(['one', 'two'])
    expect(follow(['out'], { out: '../../etc/passwd' })).toEqual(['out'])
    expect(follow(['gone'], { gone: 'nope' })).toEqual(['gone'])
  })

  test('one of several that matches nothing may be half of a name with a comma: all is wanted', () => {
    expect(follow(['a.txt', 'half'])).toHaveLength(10)
  })
})
