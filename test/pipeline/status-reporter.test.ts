import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
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
/** The time of the store. */
let clock: number
beforeEach(async () => {
  resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-statuses-'))
  double = resources.use(await startGitHubDouble({ token: TOKEN }))
  clock = Date.now()
  const opened = await sqliteBuildStore({ file: join(folder.path, 'builds.db'), now: () => new Date(clock) })
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

/** A build that has started. */
async function begin(commit = 'a'): Promise<Build> {
  const { build } = await store.accept(push('main', { sha: commit.padStart(40, '0') }))
  const begun = await store.claim(build.id)
  if (!begun) throw new Error('it cannot be claimed')
  return begun
}

/** The same build after it failed. */
async function end({ id, attempt, refs }: Build): Promise<Build> {
  expect(await store.finish(id, attempt, refs.length, failed('no'))).toBe('finished')
  return (await store.get(id)) as Build
}

const states = () => double.statuses.map(({ state }) => state)
const UNKNOWN = { body: { message: 'No commit found for SHA: a', documentation_url: '', status: '422' } }

test('a commit that GitHub does not know yet is retried', async () => {
  const begun = await begin()
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
  const ended = await end(await begin())
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

test('the end of a build is left to the process that has ended it, for a minute', async () => {
  const ended = await end(await begin())
  const statuses = reporter([])
  await statuses.sweep(60)
  expect(states()).toEqual([])
  expect(await store.unreported()).toEqual([ended])
  clock += 60_000
  await statuses.sweep(60)
  expect(states()).toEqual(['failure'])
})

test('a sweep does not report what another process has reported since it began', async () => {
  const builds = [await begin('1'), await begin('2'), await begin('3')]
  for (const build of builds) await end(build)
  const [first, , third] = builds.map(({ sha }) => sha)
  const reported: string[] = []
  await reporter([], async ({ sha }) => {
    reported.push(sha)
    if (sha === first) await store.markReported(builds[1]?.id ?? '')
  }).sweep()
  expect(reported).toEqual([first, third])
  expect(await store.unreported()).toEqual([])
})

test('a sweep reports a hundred builds of a repository, the next one the others', async () => {
  for (let number = 0; number < 103; number++) await end(await begin(number.toString(16)))
  await reporter([], async () => {}).sweep()
  expect(await store.unreported()).toHaveLength(3)
  await reporter([], async () => {}).sweep()
  expect(await store.unreported()).toEqual([])
})

test('a status that GitHub will never accept is not retried', async () => {
  const ended = await end(await begin())
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
  const begun = await begin()
  double.failNext(1, 404)
  const statuses = reporter([3_600_000])
  statuses.report(begun)
  await expect.poll(() => lines).toHaveLength(1)
  statuses.report(await end(begun))
  await statuses.idle()
  expect(states()).toEqual(['failure'])
})

test('a pending status that is in flight arrives before the final one', async () => {
  const begun = await begin()
  const arrived: string[] = []
  const sent = Promise.withResolvers<void>()
  const statuses = reporter([], async ({ state }) => {
    sent.resolve()
    await sleep(state === 'pending' ? 50 : 0)
    arrived.push(state)
  })
  statuses.report(begun)
  await sent.promise
  statuses.report(await end(begun))
  await statuses.idle()
  expect(arrived).toEqual(['pending', 'failure'])
})

test.each([
  ['is not set once another process has reported the end', 'refused', ['failure']],
  ['that arrives after the end is replaced by it again', 'accepted', ['failure', 'pending', 'failure']],
])('a pending status %s', async (_, answer, expected) => {
  const begun = await begin()
  const arrived: string[] = []
  let first = true
  const set = async ({ state }: CommitStatus) => {
    const isFirst = first
    first = false
    if (isFirst) {
      other.report(await end(begun))
      await other.idle()
      if (answer === 'refused') throw new ConveyorError('not_found', 'no commit found')
    }
    arrived.push(state)
  }
  const [one, other] = [reporter([1, 1], set), reporter([], set)]
  one.report(begun)
  await one.idle()
  expect(arrived).toEqual(expected)
  expect(await store.unreported()).toEqual([])
})

test('a pending status is not set by an attempt that another process has followed', async () => {
  const begun = await begin()
  await store.release(begun.id, begun.attempt)
  await store.claim(begun.id)
  const statuses = reporter([1, 1])
  statuses.report(begun)
  await statuses.idle()
  expect(double.requests).toEqual([])
})
