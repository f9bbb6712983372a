import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { repositoryFilter } from '../../../src/lib/core/allowed-repositories.ts'
import type { BaseImage, Build, BuildRequest, Ref } from '../../../src/lib/core/build.ts'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { rebuildMovedBases } from '../../../src/lib/pipeline/bases/rebuild.ts'
import { memoryQueue } from '../../../src/lib/queue/memory.ts'
import type { Queue } from '../../../src/lib/queue/queue.ts'
import { imageName, tagForRef } from '../../../src/lib/registry/naming.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'

const HOUR = 3_600_000
const OLD = `sha256:${'1'.repeat(64)}`
const NEW = `sha256:${'2'.repeat(64)}`
const NODE: BaseImage = { name: 'docker.io/library/node:24', resolved: 'registry', digest: OLD }

let store: BuildStore
let queue: Queue
let clock: number
let lines: string[]
/** What the registry has now, by image. */
let digests: Map<string, string>
let asked: string[]
let failing: ConveyorError | null
beforeEach(async () => {
  clock = Date.parse('2030-01-02T03:04:05.678Z')
  store = await sqliteBuildStore({ file: ':memory:', now: () => new Date(clock) })
  queue = memoryQueue({})
  lines = []
  digests = new Map([['docker.io/library/node:24', OLD]])
  asked = []
  failing = null
})
afterEach(async () => {
  await queue.close()
  await store.close()
})

const registry = {
  async head(name: string, reference: string) {
    asked.push(`${name}:${reference}`)
    if (failing) throw failing
    return digests.get(`${name}:${reference}`) ?? null
  },
}

/** Looks, an hour after the last time. */
async function look(patterns = ['acme/*'], allow: string[] = []): Promise<Build[]> {
  clock += HOUR
  return lookNow(patterns, allow)
}

/** @returns the builds that were requested */
async function lookNow(patterns = ['acme/*'], allow: string[] = []): Promise<Build[]> {
  const names = { image: (repository: string) => imageName('registry.example', repository), tag: tagForRef }
  const parts = { store, registry, names, queue, log: (line: string) => void lines.push(line) }
  const wanted = { patterns, isAllowed: repositoryFilter(allow) }
  await rebuildMovedBases(parts, wanted, new AbortController().signal)
  return (await store.unfinished()).filter(({ source }) => source === 'server')
}

let pushes = 0
const main: Ref = { kind: 'branch', name: 'main' }
/** A push whose build ends, with these base images. */
async function pushed(ref: Ref, bases: BaseImage[] | null = [NODE], change: Partial<BuildRequest> = {}) {
  pushes += 1
  const sha = pushes.toString(16).padStart(40, '0')
  const { build } = await store.accept({
    ...{ repository: 'acme/web', sha, ref, defaultBranch: 'main', cache: true },
    source: { kind: 'webhook', delivery: `d${pushes}` },
    push: { before: '0'.repeat(40), after: sha, pushedAt: pushes },
    ...change,
  })
  await finish(build, bases)
  return build
}

async function finish(build: Build, bases: BaseImage[] | null): Promise<void> {
  const claimed = await store.claim(build.id)
  const name = imageName('registry.example', build.repository)
  const tags = build.refs.map((ref) => `${name}:${tagForRef(ref)}`)
  const image = `${name}@sha256:${'5'.repeat(64)}`
  const done = { state: 'succeeded' as const, image, tags, bases, tree: 'e'.repeat(40) }
  expect(await store.finish(build.id, claimed?.attempt ?? 0, build.refs.length, done)).toBe('finished')
}

const REASON = 'base image node:24 moved from sha256:111111111111 to sha256:222222222222'

describe('a base image that has moved', () => {
  test('leads to builds of the default branch and the newest release, and of nothing else', async () => {
    const [release, older, newest] = [
      { kind: 'tag', name: 'v1.2' } as const,
      { kind: 'tag', name: 'v1.1' } as const,
      { kind: 'branch', name: 'feature' } as const,
    ]
    await pushed(older)
    const tagged = await pushed(release)
    await pushed(main)
    const head = await pushed(main)
    await pushed(newest)
    expect(await look()).toEqual([])
    digests.set(NODE.name, NEW)
    const builds = await look()
    const shown = builds.map(({ sha, refs, reason }) => ({ sha, refs: refs.map(({ name }) => name), reason }))
    expect(shown).toEqual([
      { sha: head.sha, refs: ['main'], reason: REASON },
      { sha: tagged.sha, refs: ['v1.2'], reason: REASON },
    ])
    // In the order of the pushes: `latest` and the tags stay with whatever was pushed since.
    expect(builds.map(({ pushOrder }) => pushOrder)).toEqual([head.pushOrder, tagged.pushOrder])
    expect(builds.map(({ tree }) => tree)).toEqual(['e'.repeat(40), 'e'.repeat(40)])
    expect(lines).toEqual([
      expect.stringMatching(`^${REASON}: build \\S+ of acme/web \\(branch main, created\\)$`),
      expect.anything(),
    ])
    expect((await queue.receive(AbortSignal.timeout(1000), { warm: [] }))?.buildId).toBe(builds[0]?.id)
  })

  test('is looked up once an hour, whatever uses it, by one server', async () => {
    await pushed(main)
    await pushed({ kind: 'tag', name: 'v1' })
    await pushed(main, [NODE], { repository: 'acme/api' })
    await Promise.all([lookNow(), lookNow(), lookNow()])
    expect(asked).toEqual(['docker.io/library/node:24'])
    clock += HOUR - 1
    await lookNow()
    expect(asked).toHaveLength(1)
    clock += 1
    await lookNow()
    expect(asked).toHaveLength(2)
  })

  test('leads to one build a day of a repository, and to none once that has succeeded', async () => {
    await pushed(main)
    digests.set(NODE.name, NEW)
    const [first] = await look()
    if (!first) throw new Error('nothing was requested')
    await store.claim(first.id)
    await store.finish(first.id, 1, 1, { state: 'failed', error: 'no', errorKind: 'build_failed' })
    for (let hour = 1; hour < 24; hour++) expect(await look()).toEqual([])
    const [second] = await look()
    expect(second).toMatchObject({ sha: first.sha, reason: REASON })
    await finish(second ?? first, [{ ...NODE, digest: NEW }])
    for (let hour = 0; hour < 30; hour++) expect(await look()).toEqual([])
  })

  test('is found ten minutes later if the store failed meanwhile, in this repository and the others', async () => {
    const names = ['acme/api', 'acme/web']
    for (const repository of names) await pushed(main, [NODE], { repository })
    digests.set(NODE.name, NEW)
    const { accept } = store
    store.accept = () => Promise.reject(new ConveyorError('unavailable', 'no answer'))
    await expect(look()).rejects.toThrow('no answer')
    store.accept = accept
    clock += 600_000 - 1
    expect(await lookNow()).toEqual([])
    clock += 1
    expect((await lookNow()).map(({ repository }) => repository).sort()).toEqual(names)
    clock += 600_000
    asked = []
    await lookNow()
    expect(asked).toEqual([])
  })

  test('does not if it is pinned, unknown, the engine’s own, or gone', async () => {
    await pushed(main, [{ ...NODE, resolved: 'pinned' }])
    await pushed(main, null, { repository: 'acme/api' })
    await pushed(main, [{ ...NODE, resolved: 'engine' }], { repository: 'acme/engine' })
    await pushed(main, [{ ...NODE, name: 'docker.io/library/gone:1' }], { repository: 'acme/gone' })
    digests.set(NODE.name, NEW)
    expect(await look()).toEqual([])
    expect(asked).toEqual(['docker.io/library/gone:1'])
  })

  test('only counts in repositories that want it, and that may be built', async () => {
    for (const repository of ['acme/web', 'acme/api', 'other/web']) await pushed(main, [NODE], { repository })
    digests.set(NODE.name, NEW)
    const builds = await look(['acme/*'], ['*/api', 'other/*'])
    expect(builds.map(({ repository }) => repository)).toEqual(['acme/api'])
  })

  test('is found although another repository has a name that no image can have', async () => {
    const odd = {
      ...{ repository: 'acme/_odd_', ref: main, defaultBranch: 'main', cache: true },
      sha: 'f'.repeat(40),
    }
    await pushed(main)
    await store.accept({ ...odd, source: { kind: 'api' } })
    digests.set(NODE.name, NEW)
    expect(await look()).toHaveLength(1)
    expect(lines[0]).toMatch(/^base images of acme\/_odd_: /)
  })

  test('is found in all of many repositories', async () => {
    for (let i = 0; i < 130; i++) await pushed(main, [NODE], { repository: `acme/r${i}` })
    digests.set(NODE.name, NEW)
    expect(await look()).toHaveLength(130)
    expect(asked).toHaveLength(1)
  })
})

describe('a registry', () => {
  const other = { ...NODE, name: 'docker.io/library/alpine:3' }
  const ghcr = { ...NODE, name: 'ghcr.io/acme/base:1' }

  test('that limits requests is left alone for as long as it wants, and no other is', async () => {
    await pushed(main, [NODE, other, ghcr])
    digests.set('ghcr.io/acme/base:1', OLD)
    failing = new ConveyorError('unavailable', 'too many requests', { retryAfterMs: 2.5 * HOUR })
    await look()
    // ghcr.io answers the same here, but was not asked before.
    expect(asked).toEqual(['docker.io/library/node:24', 'ghcr.io/acme/base:1'])
    failing = null
    asked = []
    await look()
    await look()
    expect(asked).toEqual([])
    await look()
    expect(asked).toEqual(['docker.io/library/node:24', 'docker.io/library/alpine:3', 'ghcr.io/acme/base:1'])
    expect(lines).toHaveLength(2)
  })

  test('that does not answer is not asked again in the same hour', async () => {
    await pushed(main, [NODE, other])
    failing = new ConveyorError('unavailable', 'it does not respond')
    await look()
    await look()
    expect(asked).toEqual(['docker.io/library/node:24', 'docker.io/library/node:24'])
  })
})
