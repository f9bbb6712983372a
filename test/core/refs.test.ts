import { expect, test } from 'vitest'
import type { Ref } from '../../src/lib/core/build.ts'
import { refsLabel, refTitle } from '../../src/lib/core/validate.ts'

const branch = (name: string): Ref => ({ kind: 'branch', name })
const pull: Ref = { kind: 'pull', name: '7' }
const queue = branch(`gh-readonly-queue/release/1.x/pr-7-${'a'.repeat(40)}`)

test('lists name what a build is of in a few characters', () => {
  const labels: [Ref[], string][] = [
    [[], ''],
    [[branch('main')], 'main'],
    [[{ kind: 'tag', name: 'v1' }], 'v1'],
    [[pull], '#7'],
    [[branch('topic'), pull], 'topic #7'],
    [[branch('topic'), branch('main'), pull], 'topic +2'],
    [[branch('topic'), branch('main')], 'topic +1'],
    [[queue], 'queue #7'],
    [[branch('gh-readonly-queue/odd')], 'gh-readonly-queue/odd'],
  ]
  for (const [refs, label] of labels) expect(refsLabel(refs)).toBe(label)
})

test('sentences name refs as people call them', () => {
  expect([branch('main'), { kind: 'tag', name: 'v1' } as const, pull].map(refTitle)).toEqual([
    ...['branch main', 'git tag v1', 'pull request #7'],
  ])
})
