import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import type { CommitStatus } from '../../src/lib/forge/forge.ts'
import { github } from '../../src/lib/forge/github/github.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { failed, push } from '../store/contract/subject.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { tempDir } from '../support/temp.ts'

const TOKEN = 'ghp_a-token'

let resources: AsyncDisposableStack
let double: GitHubDouble
let store: BuildStore
let lines: string[]
beforeEach(async () => {
  resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-statuses-'))
  double = resources.use(await startGitHubDouble({ token: TOKEN }))
  const opened = await sqliteBuildStore({ file: join(folder.path, 'builds.db') })
  resources.defer(() => opened.close())
  store = opened
  lines = []
})
afterEach(async () => {
  const { violations } = double
  await resources.disposeAsync()
  expect(violations).toEqual([])
})

const log = (line: string) => void lines.push(line)
const buildUrl = () => 'https://conveyor.example.com/builds/1'

function reporter(waitsMs: number[], setStatus?: (status: CommitStatus) => Promise<void>): StatusReporter {
  const forge = setStatus
    ? { setStatus }
    : github({ baseUrl: double.url, token: TOKEN, retryDelaysMs: [], log })
  return new StatusReporter({ forge, store, buildUrl, log, waitsMs })
}

/** A build that has started, and the same build after it failed. */
async function builds(): Promise<{ begun: Build; ended: Build }> {
  const { build } = await store.accept(push('main'))
  const begun = await store.claim(build.id)
  if (!begun) throw new Error('it cannot be claimed')
  await store.finish(begun.id, 1, begun.refs.length, failed('no'))
  const ended = await store.get(begun.id)
  if (!ended) throw new Error('it is gone')
  return { begun, ended }
}

const states = () => double.statuses.map(({ state }) => state)
const UNKNOWN = { body: { message: 'No commit found for SHA: a', documentation_url: '', status: '422' } }

test('a commit that GitHub does not know yet is retried', async () => {
  const { begun } = await builds()
  double.failNext(1, 404)
  double.failNext(2, 422, UNKNOWN)
  const statuses = reporter([1, 1, 1, 1])
  statuses.report(begun)
  await statuses.idle()
  expect(states()).toEqual(['pending'])
  expect(lines).toEqual([
    expect.stringMatching(/^commit status "pending": .* answered 404 .*; retrying for several minutes$/),
  ])
})

test('one that GitHub does not know for minutes is reported by a later sweep, even after a restart', async () => {
  const { ended } = await builds()
  double.failAlways(422, UNKNOWN)
  const statuses = reporter([1, 1])
  statuses.report(ended)
  await statuses.idle()
  expect(double.requests).toHaveLength(3)
  await statuses.sweep()
  expect(double.requests).toHaveLength(4)
  double.failAlways(null)
  await reporter([]).sweep()
  expect(states()).toEqual(['failure'])
  expect(await store.unreported()).toEqual([])
})

test('a status that GitHub will never accept is not retried', async () => {
  const { ended } = await builds()
  const errors = [{ resource: 'Status', code: 'custom', message: 'maximum number of statuses' }]
  double.failAlways(422, {
    body: { message: 'Validation Failed', documentation_url: '', status: '422', errors },
  })
  const statuses = reporter([1, 1])
  statuses.report(ended)
  await statuses.idle()
  await statuses.sweep()
  expect(double.requests).toHaveLength(1)
})

test('the final status replaces a pending one that waits for a retry', async () => {
  const { begun, ended } = await builds()
  double.failNext(1, 404)
  const statuses = reporter([3_600_000])
  statuses.report(begun)
  await expect.poll(() => lines).toHaveLength(1)
  statuses.report(ended)
  await statuses.idle()
  expect(states()).toEqual(['failure'])
})

test('a pending status that is in flight arrives before the final one', async () => {
  const { begun, ended } = await builds()
  const arrived: string[] = []
  const statuses = reporter([], async ({ state }) => {
    await sleep(state === 'pending' ? 50 : 0)
    arrived.push(state)
  })
  statuses.report(begun)
  await sleep(5)
  statuses.report(ended)
  await statuses.idle()
  expect(arrived).toEqual(['pending', 'failure'])
})
