import { describe, expect, test } from 'vitest'
import { commitStatus, duration } from '../../src/lib/pipeline/status-reporter.ts'
import { build } from '../support/build.ts'

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
    expect(commitStatus(subject, 'http://c/builds/b')).toMatchObject({
      state,
      description,
      targetUrl: 'http://c/builds/b',
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
