import { describe, expect, test } from 'vitest'
import type { Ref } from '../../../src/lib/core/build.ts'
import type { RefPatterns } from '../../../src/lib/core/settings.ts'
import { buildPolicy } from '../../../src/lib/pipeline/policy/build-policy.ts'
import { threadTime } from '../../support/timing/thread-time.ts'

const branch = (name: string): Ref => ({ kind: 'branch', name })
const tag = (name: string): Ref => ({ kind: 'tag', name })

function policy(patterns: Partial<RefPatterns> = {}) {
  return buildPolicy(() => ({ branches: [], tags: [], ...patterns }), 'queued')
}

function built(patterns: Partial<RefPatterns>, refs: Ref[]): string[] {
  const { whyNot } = policy(patterns)
  return refs
    .filter((ref) => whyNot({ repository: 'acme/app', ref, message: 'Fix' }) === null)
    .map(({ name }) => name)
}

function skipped(message: string, ref = branch('main')): string | null {
  return policy().whyNot({ repository: 'acme/app', ref, message })
}

describe('patterns', () => {
  const branches = ['main', 'wip/a', 'wip/keep', 'release/1', 'release/1/fix'].map(branch)

  test('without patterns, everything is built', () => {
    expect(built({}, [...branches, tag('v1')])).toEqual([...branches.map(({ name }) => name), 'v1'])
  })

  test('* stays within a part of the name, ** does not', () => {
    expect(built({ branches: ['release/*'] }, branches)).toEqual(['release/1'])
    expect(built({ branches: ['release/**'] }, branches)).toEqual(['release/1', 'release/1/fix'])
    expect(built({ branches: ['**/fix'] }, branches)).toEqual(['release/1/fix'])
    expect(built({ branches: ['*'] }, branches)).toEqual(['main'])
  })

  test('the last pattern that matches decides', () => {
    expect(built({ branches: ['**', '!wip/**', 'wip/keep'] }, branches)).toEqual([
      'main',
      'wip/keep',
      'release/1',
      'release/1/fix',
    ])
    expect(built({ branches: ['wip/keep', '!wip/**'] }, branches)).toEqual([])
  })

  test('if the first pattern excludes, what no pattern matches is built', () => {
    expect(built({ branches: ['!wip/**'] }, branches)).toEqual(['main', 'release/1', 'release/1/fix'])
    expect(built({ tags: ['!**'] }, [tag('v1'), tag('a/b'), branch('main')])).toEqual(['main'])
  })

  test('branches and git tags have patterns of their own', () => {
    expect(built({ tags: ['v*'] }, [tag('v1'), tag('nightly'), branch('nightly')])).toEqual(['v1', 'nightly'])
  })

  test("a merge queue's branch is built if the branch that it merges into is", () => {
    const queued = branch(`gh-readonly-queue/release/1/pr-7-${'a'.repeat(40)}`)
    expect(built({ branches: ['release/*'] }, [queued])).toEqual([queued.name])
    expect(built({ branches: ['main'] }, [queued])).toEqual([])
  })

  test('the reason names the branch and the option', () => {
    const head = { repository: 'acme/app', ref: branch('wip/a'), message: null }
    expect(policy({ branches: ['main'] }).whyNot(head)).toBe('branch "wip/a" is excluded by --build.branches')
    expect(policy({ tags: ['v*'] }).whyNot({ ...head, ref: tag('x') })).toBe(
      'git tag "x" is excluded by --build.tags',
    )
  })
})

describe('what the commit says', () => {
  test.each(['[skip ci]', '[ci skip]', '[no ci]', '[skip actions]', '[actions skip]', '[Skip CI]'])(
    '%s anywhere in the message skips the build',
    (mark) => {
      const reason = `the commit's message says ${JSON.stringify(mark.toLowerCase())}`
      expect(skipped(`Update the README ${mark}`)).toBe(reason)
      expect(skipped(`Update the README\n\nNothing to build. ${mark}\n`)).toBe(reason)
      expect(skipped(`Update the README ${mark}`, tag('v1'))).toBe(reason)
    },
  )

  test('the trailer skip-checks skips the build if it is the last one', () => {
    const reason = 'the commit\'s message says "skip-checks: true"'
    expect(skipped('Fix\n\n\nskip-checks: true')).toBe(reason)
    expect(skipped('Fix\n\n\nskip-checks:true\n')).toBe(reason)
    expect(skipped('Fix\r\n\r\nMore.\r\n\r\nReviewed-by: Ada\r\n  Lovelace\r\nskip-checks: true\r\n')).toBe(
      reason,
    )
  })

  test.each([
    'skip ci',
    '[skipci]',
    'skip-checks: true',
    'Fix\nskip-checks: true',
    'Fix\n\nskip-checks: false',
    'Fix\n\nskip-checks: true\nReviewed-by: Ada',
    'Fix\n\nskip-checks: true\n\nMore.',
    'Fix\n\nThis text is no trailer\nskip-checks: true',
  ])('%j does not', (message) => {
    expect(skipped(message)).toBeNull()
  })

  test('an unknown message skips nothing', () => {
    expect(policy().whyNot({ repository: 'acme/app', ref: branch('main'), message: null })).toBeNull()
  })

  test('a merge queue waits for the result, whatever the message says', () => {
    expect(skipped('Merge [skip ci]', branch(`gh-readonly-queue/main/pr-1-${'a'.repeat(40)}`))).toBeNull()
  })

  test('a hostile message takes no time', () => {
    const taken = threadTime()
    for (const piece of ['a:', '\n', ' \n', '[skip ', 'skip-checks:'])
      skipped(`${piece.repeat(200_000)}\nskip-checks: true`)
    expect(taken()).toBeLessThan(2000)
  })
})

describe('supersedes', () => {
  const of = (supersede: 'queued' | 'running' | 'off', ref: Ref, defaultBranch: string | null = 'main') =>
    buildPolicy(() => ({ branches: [], tags: [] }), supersede).supersedes(ref, defaultBranch)

  test('a push of a branch supersedes as configured', () => {
    expect(of('queued', branch('feature'))).toBe('queued')
    expect(of('running', branch('feature'))).toBe('running')
    expect(of('off', branch('feature'))).toBeNull()
  })

  test('git tags, the default branch, and merge queues are left alone, and so is all if the default branch is unknown', () => {
    expect(of('running', tag('v1'))).toBeNull()
    expect(of('running', branch('main'))).toBeNull()
    expect(of('running', branch(`gh-readonly-queue/main/pr-1-${'a'.repeat(40)}`))).toBeNull()
    expect(of('running', branch('feature'), null)).toBeNull()
  })
})
