import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Head, Ref } from '../../../src/lib/core/build.ts'
import { compareHeads, FOUND } from '../../../src/lib/pipeline/missed/compare-heads.ts'
import { packHeads, unpackHeads } from '../../../src/lib/pipeline/missed/packed-heads.ts'
import { buildPolicy } from '../../../src/lib/pipeline/policy/build-policy.ts'
import { memoryQueue } from '../../../src/lib/queue/memory.ts'
import type { FoundCommit } from '../../../src/lib/source/source.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import type { HeadComparison } from '../../../src/lib/store/comparisons.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { longestTurn } from '../../support/timing/longest-turn.ts'

const REPOSITORY = 'acme/app'
const MAIN: Ref = { kind: 'branch', name: 'main' }

const sha = (number: number) => number.toString(16).padStart(40, '0')
const head = (name: string, number: number, kind: Ref['kind'] = 'branch'): Head => {
  return { ref: { kind, name }, sha: sha(number), object: sha(number) }
}

let store: BuildStore
let heads: Head[]
let messages: Map<string, string>
let lines: string[]
beforeEach(async () => {
  store = await sqliteBuildStore({ file: ':memory:' })
  lines = []
  messages = new Map()
  heads = [head('main', 1)]
  await store.accept({
    ...{ repository: REPOSITORY, sha: sha(1), ref: MAIN, defaultBranch: 'main', cache: true },
    source: { kind: 'webhook', delivery: 'first' },
  })
})
afterEach(() => store.close())

/** The commit with a number: it was made so many seconds after 2024 began. */
function commitOf(id: string): FoundCommit {
  const message = messages.get(id) ?? 'Title'
  const committedAt = new Date(Date.UTC(2024) + Number.parseInt(id, 16) * 1000).toISOString()
  return { tree: id, committedAt, info: { title: message, author: 'Ada', login: null }, message }
}

const comparison = async (): Promise<HeadComparison> => {
  await store.comparisons.restart()
  const [due] = await store.comparisons.due(1)
  if (!due) throw new Error('no comparison is due')
  return due
}

/** Compares once; resolves to the new builds, in the order in which they were accepted. */
async function compare({
  waitS = 0,
  patterns = { branches: [] as string[], tags: [] as string[] },
  pulls = true,
} = {}) {
  const known = new Set((await store.unfinished()).map(({ id }) => id))
  const parts = {
    ...{ store, queue: memoryQueue(), log: (line: string) => lines.push(line) },
    remote: {
      heads: async () => heads,
      commits: async (_: string, ids: string[]) =>
        new Map(ids.filter((id) => id !== sha(0xb10b)).map((id) => [id, commitOf(id)])),
    },
    history: { head: async () => ({ ref: MAIN, sha: sha(1) }) },
    policy: buildPolicy(() => patterns, 'queued'),
    pulls,
  }
  await compareHeads(await comparison(), parts, {
    waitS,
    intervalS: 240,
    signal: new AbortController().signal,
  })
  return (await store.unfinished()).filter(({ id }) => !known.has(id))
}

const numbers = (builds: { sha: string }[]) => builds.map((build) => Number.parseInt(build.sha, 16))

describe('comparing the heads of a repository', () => {
  test('knows all of them the first time, and builds new and moved ones from then on, once, oldest first', async () => {
    heads = [head('main', 1), head('old', 2), head('v1', 3, 'tag')]
    expect(await compare()).toEqual([])
    expect(lines).toEqual([
      `${REPOSITORY}: 3 branches and git tags are known; others are built even if no webhook comes`,
    ])
    heads = [head('main', 9), head('new', 7), head('v1', 3, 'tag'), head('v2', 8, 'tag')]
    const builds = await compare()
    expect(numbers(builds)).toEqual([7, 8, 9])
    const [first] = builds
    expect(first).toMatchObject({
      source: 'server',
      reason: FOUND,
      defaultBranch: 'main',
      tree: sha(7),
      cache: true,
    })
    expect(first?.commit).toEqual({ title: 'Title', author: 'Ada', login: null })
    expect(await compare()).toEqual([])
    // A branch that was deleted comes back.
    heads = [...heads, head('old', 2)]
    expect(numbers(await compare())).toEqual([2])
  })

  test('leaves alone what is not to be built, also later', async () => {
    await compare()
    messages.set(sha(5), 'Words [skip ci]').set(sha(6), 'All anew [docker nocache]')
    heads = [
      head('main', 1),
      head('words', 5),
      head('anew', 6),
      head('wip/x', 7),
      head('blob', 0xb10b, 'tag'),
    ]
    const builds = await compare({ patterns: { branches: ['!wip/*'], tags: [] } })
    expect(numbers(builds)).toEqual([6])
    expect(builds[0]?.cache).toBe(false)
    expect(lines.at(-2)).toBe(
      `branch words of ${REPOSITORY} at 0000000 has no build: the commit's message says "[skip ci]"`,
    )
    expect(await compare()).toEqual([])
  })

  test('knows what was pushed, ignored or cancelled meanwhile', async () => {
    await compare()
    const pushed = { repository: REPOSITORY, defaultBranch: 'main', cache: true }
    const ref = (name: string): Ref => ({ kind: 'branch', name })
    await store.accept({
      ...pushed,
      sha: sha(5),
      ref: ref('pushed'),
      source: { kind: 'webhook', delivery: 'a' },
    })
    await store.accept({ ...pushed, sha: sha(6), ref: ref('asked'), source: { kind: 'api' } })
    const { build } = await store.accept({
      ...pushed,
      sha: sha(7),
      ref: ref('cancelled'),
      source: { kind: 'api' },
    })
    await store.requestCancel(build.id, 'ada')
    const ignored = { id: 'b', event: 'push', repository: REPOSITORY, reason: 'no' }
    await store.ignored.add({ ...ignored, ref: 'refs/heads/ignored', sha: sha(8) })
    heads = [head('main', 1), head('pushed', 5), head('asked', 6), head('cancelled', 7), head('ignored', 8)]
    expect(await compare()).toEqual([])
  })

  test('waits for a webhook: a head is built when it was seen half a minute ago, and not if it moved or went', async () => {
    await compare()
    heads = [head('main', 5), head('gone', 6)]
    expect(await compare({ waitS: 30 })).toEqual([])
    const { waiting } = await comparison()
    expect(waiting).toMatchObject([{ ref: MAIN, sha: sha(5) }, { sha: sha(6) }])
    const ago = new Date(Date.now() - 31_000).toISOString()
    const moveClock = async () => {
      const { heads: packed, sequence, waiting } = await comparison()
      if (!packed) throw new Error('never compared')
      const earlier = waiting.map((one) => ({ ...one, since: ago }))
      await store.comparisons.compared(REPOSITORY, { heads: packed, sequence, waiting: earlier }, 0)
    }
    heads = [head('main', 7)]
    await moveClock()
    expect(await compare({ waitS: 30 })).toEqual([])
    expect((await comparison()).waiting).toMatchObject([{ sha: sha(7) }])
    await moveClock()
    expect(numbers(await compare({ waitS: 30 }))).toEqual([7])
    expect((await comparison()).waiting).toEqual([])
  })

  test('joins five tags of one commit into one build', async () => {
    await compare()
    heads = [head('main', 1), ...[1, 2, 3, 4, 5].map((number) => head(`v${number}`, 9, 'tag'))]
    const builds = await compare()
    expect(builds).toHaveLength(1)
    expect(builds[0]?.refs.map(({ name }) => name)).toEqual(['v1', 'v2', 'v3', 'v4', 'v5'])
  })

  test('builds a hundred heads at a time, and forgets none of the others', async () => {
    await compare()
    heads = [head('main', 1), ...Array.from({ length: 250 }, (_, at) => head(`v${at}`, 1000 + at, 'tag'))]
    const found = new Set<string>()
    for (const count of [100, 100, 50, 0]) {
      const builds = await compare()
      expect(builds).toHaveLength(count)
      for (const { sha } of builds) found.add(sha)
    }
    expect(found.size).toBe(250)
  })

  test('supersedes the build of an older push of the branch that still waits', async () => {
    const topic: Ref = { kind: 'branch', name: 'topic' }
    const { build } = await store.accept({
      ...{ repository: REPOSITORY, sha: sha(5), ref: topic, defaultBranch: 'main', cache: true },
      source: { kind: 'webhook', delivery: 'topic' },
    })
    heads = [head('main', 1), head('topic', 5)]
    await compare()
    heads = [head('main', 1), head('topic', 6)]
    expect(numbers(await compare())).toEqual([6])
    expect(await store.get(build.id)).toMatchObject({ state: 'cancelled' })
  })

  test.each([
    [true, ['branch topic', 'pull 7']],
    [false, ['branch topic']],
  ])('tags the pull request of a branch, unless they are off: %s', async (pulls, expected) => {
    await compare()
    const pull = { repository: REPOSITORY, number: 7, title: 'Greet', author: 'ada', open: true }
    const updatedAt = '2030-01-01T00:00:00.000Z'
    const topic = { sha: sha(5), branch: 'topic', repository: REPOSITORY }
    await store.pulls.put({ ...pull, head: topic, updatedAt })
    await store.pulls.put({ ...pull, number: 8, head: { ...topic, branch: 'other' }, updatedAt })
    await store.pulls.put({ ...pull, number: 9, head: { ...topic, repository: 'mallory/app' }, updatedAt })
    heads = [head('main', 1), head('topic', 5)]
    const [build] = await compare({ pulls })
    const { refs } = (await store.get(build?.id ?? '')) ?? { refs: [] }
    expect(refs.map(({ kind, name }) => `${kind} ${name}`)).toEqual(expected)
  })

  test('keeps what was seen if the commits cannot be read', async () => {
    await compare()
    heads = [head('main', 5)]
    const { heads: packed } = await comparison()
    const broken = { ...(await comparison()) }
    const parts = {
      ...{ store, queue: memoryQueue(), log: () => {} },
      remote: { heads: async () => heads, commits: () => Promise.reject(new Error('gone')) },
      history: { head: async () => null },
      policy: buildPolicy(() => ({ branches: [], tags: [] }), 'queued'),
      pulls: true,
    }
    const signal = new AbortController().signal
    await expect(compareHeads(broken, parts, { waitS: 0, intervalS: 1, signal })).rejects.toThrow('gone')
    expect((await comparison()).heads).toEqual(packed)
    expect(numbers(await compare())).toEqual([5])
  })
})

describe('heads that were seen', () => {
  test('come back as they were packed, with any name', async () => {
    const seen = new Map([
      ['branch ünï/x y', sha(1)],
      ['tag v1', sha(2)],
    ])
    expect(await unpackHeads(await packHeads(seen))).toEqual(seen)
    expect(await unpackHeads(await packHeads(new Map()))).toEqual(new Map())
  })

  test('of a hundred thousand branches are compared in short turns', async () => {
    heads = Array.from({ length: 100_000 }, (_, at) => head(`feature/of-somebody/${at}`, at))
    await compare()
    const turn = longestTurn()
    heads = [...heads.slice(1), head('new', 7)]
    expect(await compare()).toHaveLength(1)
    // In one turn, all of them take nearly twice as long. A slow machine may take longer: a fifth of the whole.
    expect(turn.ms()).toBeLessThan(Math.min(250, Math.max(100, turn.total() / 5)))
  })
})
