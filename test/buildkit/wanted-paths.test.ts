import { Metadata } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { excludedPatterns, wantedPaths } from '../../src/lib/buildkit/session/wanted-paths.ts'
import { memoryContext } from '../support/context/memory-context.ts'

function wanted(headers: Record<string, string>, files: string[] = ['a']): string[] | null {
  const metadata = Metadata.fromHttp2Headers(headers)
  const { entries } = memoryContext(Object.fromEntries(files.map((path) => [path, ''])))
  return wantedPaths(metadata, entries).follow as string[] | null
}

test('several values of one header arrive joined', () => {
  expect(wanted({ followpaths: 'a, b, c' })).toEqual(['a', 'b', 'c'])
})

test('non-ASCII characters are escaped, as Go escapes the query of a URL', () => {
  const headers = { followpaths: 'test-%C3%A4.txt, a%2C+b%2B', 'followpaths-encoded': '1' }
  expect(wanted(headers)).toEqual(['test-ä.txt', 'a, b+'])
  expect(wanted({ followpaths: '%FF', 'followpaths-encoded': '1' })).toBeNull()
})

test('what is excluded is read in the same way', () => {
  const excluded = (headers: Record<string, string>) => excludedPatterns(Metadata.fromHttp2Headers(headers))
  expect(excluded({})).toEqual([])
  expect(excluded({ 'exclude-patterns': 'docs, !docs/a' })).toEqual(['docs', '!docs/a'])
  const escaped = { 'exclude-patterns': '%C3%A4, %21a%2C+b', 'exclude-patterns-encoded': '1' }
  expect(excluded(escaped)).toEqual(['ä', '!a, b'])
  // Which file an invalid one means is not known, and more than enough may be sent.
  expect(excluded({ 'exclude-patterns': '%FF', 'exclude-patterns-encoded': '1' })).toEqual([])
})

test('if paths contain commas, every sequence of pieces may be one of them', () => {
  expect(wanted({ followpaths: 'a, b, c' }, ['a', 'a, b'])).toEqual([
    'a',
    'a, b',
    'a, b, c',
    'b',
    'b, c',
    'c',
  ])
  expect(wanted({ followpaths: 'a, , , b' }, ['a, '])).toEqual(expect.arrayContaining(['a, ', ', b']))
  expect(wanted({ followpaths: 'x[a, b]' })).toEqual(['x[a, b]', 'b]'])
  expect(wanted({ followpaths: Array(100).fill('a').join(', ') }, ['a, b'])).toBeNull()
})
