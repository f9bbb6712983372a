import { describe, expect, test } from 'vitest'
import type { Build, BuildRef } from '../../../src/lib/core/build.ts'
import type { LatestPolicy } from '../../../src/lib/core/settings.ts'
import { tagNotes, wantedTags } from '../../../src/lib/pipeline/tags/wanted.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import { build } from '../../support/build.ts'

const names = {
  image: (repository: string) => repository,
  tag: tagForRef,
}

const branch = (name: string, sequence: number): BuildRef => ({ kind: 'branch', name, sequence })

describe('wantedTags', () => {
  const gitTag = (name: string, sequence: number): BuildRef => ({ kind: 'tag', name, sequence })
  const wanted = (rest: Partial<Build>, latest: LatestPolicy = 'always') =>
    wantedTags(build(rest), latest, names)
  const own = (tag: string, sequence: number, ref: BuildRef) => {
    const { kind, name } = ref
    const others = [tagForRef(ref, 1), tagForRef(ref, 2)]
    return { tag, sequence, owner: { ref: { kind, name }, others } }
  }
  const latest = ({ kind, name, sequence }: BuildRef, as: string) => {
    return { tag: 'latest', sequence, shared: { ref: { kind, name }, as } }
  }

  test('every ref, and latest for the newest push first', () => {
    const refs = [branch('main', 3), branch('feature/x', 7)]
    expect(wanted({ refs })).toEqual([
      own('main', 3, branch('main', 3)),
      own('feature-x', 7, branch('feature/x', 7)),
      latest(branch('feature/x', 7), 'feature-x'),
      latest(branch('main', 3), 'main'),
    ])
    // The last push to arrive is not always the newest.
    const [, , first] = wanted({ refs, pushOrder: 3 })
    expect(first).toEqual(latest(branch('main', 3), 'main'))
  })

  test('latest follows the default branch alone if configured', () => {
    const refs = [branch('main', 3), branch('feature/x', 7)]
    const moves = wanted({ refs }, 'default-branch').filter(({ tag }) => tag === 'latest')
    expect(moves).toEqual([latest(branch('main', 3), 'main')])
    const others = [branch('feature/x', 7), gitTag('main', 9)]
    expect(wanted({ refs: others }, 'default-branch').map(({ tag }) => tag)).toEqual(['feature-x', 'main'])
    expect(wanted({ refs: [] }, 'default-branch')).toEqual([])
  })

  test('only a sha: latest, unless no push announced the commit', () => {
    expect(wanted({})).toEqual([{ tag: 'latest', sequence: 7, shared: true }])
    expect(wanted({ pushOrder: 0 })).toEqual([])
  })

  test('only a sha: latest, also if a merge queue or a pull request has the commit built', () => {
    const queue = branch('gh-readonly-queue/main/pr-7-0123', 5)
    const pull: BuildRef = { kind: 'pull', name: '7', sequence: 5 }
    const refs = [queue, pull]
    const moves = [own('pr-7', 5, pull), { tag: 'latest', sequence: 7, shared: true }]
    expect(wanted({ refs, pushOrder: 7 })).toEqual(moves)
    expect(wanted({ refs, pushOrder: 7 }, 'default-branch')).toEqual(moves.slice(0, 1))
    expect(wanted({ refs, pushOrder: 0 })).toEqual(moves.slice(0, 1))
  })

  test('a merge queue branch gets no tag, even if its commit is on another branch', () => {
    const queue = branch('gh-readonly-queue/main/pr-7-0123', 7)
    expect(wanted({ refs: [queue], pushOrder: 0 })).toEqual([])
    expect(wanted({ refs: [queue, branch('main', 8)], pushOrder: 8 }).map(({ tag }) => tag)).toEqual([
      'main',
      'latest',
    ])
    expect(wanted({ refs: [gitTag('gh-readonly-queue/x', 7)] })).toHaveLength(2)
  })
})

describe('tagNotes', () => {
  test('say which tag is not moved, and which name a ref got instead', () => {
    const moves = wantedTags(
      build({ refs: [branch('main', 3), { kind: 'tag', name: 'v1', sequence: 7 }] }),
      'always',
      names,
    )
    expect(tagNotes(moves, ['main', 'v1', 'latest'])).toEqual([])
    const spare = tagForRef({ kind: 'tag', name: 'v1' }, 1)
    expect(tagNotes(moves, [spare])).toEqual([
      'tag main is not moved: it already points at a newer push',
      `tag v1 already belongs to another ref; the git tag v1 gets ${spare}`,
      'tag latest is not moved: it already points at a newer push',
    ])
  })
})
