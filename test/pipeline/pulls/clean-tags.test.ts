import { afterEach, beforeEach, expect, test } from 'vitest'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import type { PullRequest } from '../../../src/lib/core/pull-request.ts'
import { TagCleaner } from '../../../src/lib/pipeline/pulls/clean-tags.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { tempDir } from '../../support/temp.ts'
import { sha } from '../../support/test-server.ts'

/** The tags of pull requests that are closed. */

const IMAGE = 'registry.test/acme/app'
let store: BuildStore
let stack: AsyncDisposableStack
let lines: string[]
let removed: string[]
let deleteTag: (tag: string) => Promise<boolean>
let cleaner: TagCleaner
beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const dir = stack.use(await tempDir())
  store = stack.adopt(await sqliteBuildStore({ file: `${dir.path}/conveyor.db` }), (it) => it.close())
  lines = []
  removed = []
  const registry = {
    deleteTag: async (image: string, tag: string) => {
      const answer = await deleteTag(tag)
      removed.push(`${image}:${tag}`)
      return answer
    },
  }
  const names = { image: () => IMAGE }
  cleaner = new TagCleaner({ store, registry, names, log: (line) => lines.push(line) })
})
afterEach(() => stack.disposeAsync())

/** Sweeps with a registry that answers like this. */
function sweep(answer: (tag: string) => Promise<boolean>): Promise<void> {
  deleteTag = answer
  return cleaner.sweep()
}

/** A closed pull request with a tag. */
async function closed(number: number): Promise<PullRequest> {
  const ref = { kind: 'pull', name: String(number) } as const
  const request = { repository: 'acme/app', sha: sha(String(number)), ref, defaultBranch: null, cache: true }
  const { build } = await store.accept({ ...request, source: { kind: 'api' } })
  await store.claim(build.id)
  const tag = `pr-${number}`
  const owner = { ref, others: [] }
  await store.moveTags(IMAGE, [{ tag, sequence: build.refs[0]?.sequence ?? 0, owner }], async () => {})
  const image = `${IMAGE}@sha256:${'0'.repeat(64)}`
  await store.finish(build.id, 1, 1, { state: 'succeeded', image, tags: [`${IMAGE}:${tag}`] })
  const pull: PullRequest = {
    ...{ repository: 'acme/app', number, title: 'Change', author: 'ada', open: false },
    head: { sha: request.sha, branch: 'topic', repository: 'acme/app' },
    updatedAt: `2030-01-01T00:00:0${number}.000Z`,
  }
  await store.pulls.put(pull)
  return pull
}

test('are removed once', async () => {
  await closed(1)
  await sweep(async () => true)
  await sweep(async () => true)
  expect(removed).toEqual([`${IMAGE}:pr-1`])
  expect(lines).toEqual([`removed tag pr-1 of ${IMAGE}: pull request #1 of acme/app is closed`])
})

test('stay if the registry removes none, which is said once', async () => {
  await closed(1)
  for (let times = 0; times < 2; times++) await sweep(async () => false)
  expect(removed).toHaveLength(1)
  expect(lines).toEqual([
    `removing the tag of pull request #1 of acme/app: the registry does not remove tags: ${IMAGE}:pr-1 stays`,
  ])
})

test('are tried again if the registry did not answer, and others not until then', async () => {
  for (const number of [1, 2]) await closed(number)
  let asked = 0
  await sweep(async () => {
    asked++
    throw new ConveyorError('unavailable', 'no answer')
  })
  expect(asked).toBe(1)
  await sweep(async () => true)
  expect(removed.toSorted()).toEqual([`${IMAGE}:pr-1`, `${IMAGE}:pr-2`])
})

test('do not wait for one that never gets an answer, which is said once', async () => {
  const never = async (tag: string) => {
    if (tag === 'pr-1') throw new ConveyorError('unavailable', 'answered 500')
    return true
  }
  for (const number of [1, 2, 3]) await closed(number)
  await sweep(never)
  expect(removed).toEqual([])
  await sweep(never)
  expect(removed).toEqual([`${IMAGE}:pr-2`, `${IMAGE}:pr-3`])
  await closed(4)
  await sweep(never)
  expect(removed.at(-1)).toBe(`${IMAGE}:pr-4`)
  expect(lines.filter((line) => line.includes('answered 500'))).toEqual([
    'removing the tag of pull request #1 of acme/app: answered 500',
  ])
})

test('are asked for once in a sweep of a registry that is down, which is said once', async () => {
  for (const number of [1, 2, 3]) await closed(number)
  const asked: string[] = []
  const down = async (tag: string) => {
    asked.push(tag)
    throw new ConveyorError('unavailable', 'no answer')
  }
  for (let times = 0; times < 4; times++) await sweep(down)
  expect(asked).toEqual(['pr-1', 'pr-2', 'pr-3', 'pr-1'])
  expect(lines).toHaveLength(1)
  await sweep(async () => true)
  expect(removed).toHaveLength(3)
})

test('stay if the pull request has been reopened since the sweep began', async () => {
  await closed(1)
  const pull = await closed(2)
  await sweep(() => store.pulls.put({ ...pull, open: true, updatedAt: '2030-01-02T00:00:00.000Z' }))
  expect(removed).toEqual([`${IMAGE}:pr-1`])
  expect(lines).toHaveLength(1)
})

test('of one that was never tagged need no request', async () => {
  const pull = await closed(1)
  await store.pulls.put({ ...pull, number: 3 })
  await sweep(async () => true)
  expect(removed).toEqual([`${IMAGE}:pr-1`])
  expect(await store.pulls.uncleaned(5)).toEqual([])
})
