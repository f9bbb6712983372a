import { afterEach, beforeEach, expect, test } from 'vitest'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import type { PullRequest } from '../../../src/lib/core/pull-request.ts'
import { cleanTags } from '../../../src/lib/pipeline/pulls/clean-tags.ts'
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
beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const dir = stack.use(await tempDir())
  store = stack.adopt(await sqliteBuildStore({ file: `${dir.path}/conveyor.db` }), (it) => it.close())
  lines = []
  removed = []
})
afterEach(() => stack.disposeAsync())

/** Sweeps with a registry that answers like this. */
async function sweep(deleteTag: () => Promise<boolean>): Promise<void> {
  const registry = {
    deleteTag: async (image: string, tag: string) => {
      const answer = await deleteTag()
      removed.push(`${image}:${tag}`)
      return answer
    },
  }
  await cleanTags({ store, registry, names: { image: () => IMAGE }, log: (line) => lines.push(line) })
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
  expect(removed).toEqual([`${IMAGE}:pr-1`, `${IMAGE}:pr-2`])
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
