import { describe, expect, test } from 'vitest'
import type { Build, BuildRef } from '../src/lib/build/build.ts'
import { wantedTags } from '../src/lib/build/publish.ts'
import { commitStatus, duration } from '../src/lib/build/report-status.ts'

const names = {
  image: (repository: string) => repository,
  tag: ({ name }: { name: string }) => name.replaceAll('/', '-'),
}

function build(rest: Partial<Build> = {}): Build {
  return {
    id: 'b',
    sequence: 1,
    repository: 'acme/web',
    sha: 'a'.repeat(40),
    refs: [],
    defaultBranch: 'main',
    cache: true,
    tree: null,
    pushOrder: 7,
    state: 'building',
    attempt: 1,
    error: null,
    errorKind: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    startedAt: '2026-01-01T00:00:01.000Z',
    completedAt: null,
    ...rest,
  }
}

const branch = (name: string, sequence: number): BuildRef => ({ kind: 'branch', name, sequence })

describe('wantedTags', () => {
  test('every ref, and latest at the position of the push', () => {
    const refs = [branch('main', 3), branch('feature/x', 7)]
    expect(wantedTags(build({ refs }), 'always', names)).toEqual([
      { tag: 'main', sequence: 3 },
      { tag: 'feature-x', sequence: 7 },
      { tag: 'latest', sequence: 7 },
    ])
  })

  test('latest follows the default branch alone when asked to', () => {
    const refs = [branch('main', 3), branch('feature/x', 7)]
    expect(wantedTags(build({ refs }), 'default-branch', names)).toContainEqual({
      tag: 'latest',
      sequence: 3,
    })
    const other = wantedTags(build({ refs: [branch('feature/x', 7)] }), 'default-branch', names)
    expect(other).toEqual([{ tag: 'feature-x', sequence: 7 }])
    const tag: BuildRef = { kind: 'tag', name: 'main', sequence: 9 }
    expect(wantedTags(build({ refs: [tag] }), 'default-branch', names)).toEqual([
      { tag: 'main', sequence: 9 },
    ])
  })

  test('refs that share a tag want it once, at the newer push', () => {
    const refs = [branch('v1', 9), { kind: 'tag' as const, name: 'v1', sequence: 4 }]
    expect(wantedTags(build({ refs }), 'default-branch', names)).toEqual([{ tag: 'v1', sequence: 9 }])
  })

  test('only a sha: latest alone', () => {
    expect(wantedTags(build(), 'always', names)).toEqual([{ tag: 'latest', sequence: 7 }])
  })
})

describe('commitStatus', () => {
  const ended = { completedAt: '2026-01-01T00:01:06.000Z' }
  test.each([
    [build(), 'pending', 'Image building.'],
    [build({ state: 'succeeded', ...ended }), 'success', 'Image built in 1m 5s.'],
    [build({ state: 'failed', error: 'RUN failed', errorKind: 'build_failed' }), 'failure', 'RUN failed'],
    [
      build({ state: 'failed', error: 'no such commit', errorKind: 'not_found' }),
      'failure',
      'no such commit',
    ],
    [build({ state: 'failed', error: 'too long', errorKind: 'timeout' }), 'failure', 'too long'],
    [build({ state: 'failed', error: 'registry down', errorKind: 'unavailable' }), 'error', 'registry down'],
    [build({ state: 'failed', error: 'login refused', errorKind: 'unauthorized' }), 'error', 'login refused'],
  ])('%#', (subject, state, description) => {
    expect(commitStatus(subject, 'http://c/logs/b')).toMatchObject({
      state,
      description,
      targetUrl: 'http://c/logs/b',
    })
  })

  test.each([
    ['2026-01-01T00:00:01.640Z', '0.6s'],
    ['2026-01-01T00:00:43.400Z', '42s'],
    ['2026-01-01T00:20:01.000Z', '20m 0s'],
  ])('duration until %s', (completedAt, expected) => {
    expect(duration(build({ completedAt }))).toBe(expected)
  })
})
