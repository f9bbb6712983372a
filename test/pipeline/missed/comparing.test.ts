import { afterEach, beforeEach, expect, test } from 'vitest'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { Comparing } from '../../../src/lib/pipeline/missed/comparing.ts'
import { buildPolicy } from '../../../src/lib/pipeline/policy/build-policy.ts'
import { memoryQueue } from '../../../src/lib/queue/memory.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'

/** When and by which server repositories are compared. */

let store: BuildStore
let running: Comparing[]
beforeEach(async () => {
  store = await sqliteBuildStore({ file: ':memory:' })
  running = []
})
afterEach(async () => {
  await Promise.all(running.map((one) => one.stop()))
  await store.close()
})

/** A server that compares; `calls` are the repositories whose heads it looked up. */
function server({
  heads = async () => [],
  allowed = () => true,
}: {
  heads?: () => Promise<never[]>
  allowed?: (repository: string) => boolean
} = {}) {
  const calls: string[] = []
  const lines: string[] = []
  const comparing = new Comparing({
    ...{ store, queue: memoryQueue(), log: (line: string) => lines.push(line) },
    remote: {
      heads: (repository) => {
        calls.push(repository)
        return heads()
      },
      commits: async () => new Map(),
    },
    history: { head: async () => null },
    policy: buildPolicy(() => ({ branches: [], tags: [] }), 'queued'),
    ...{ isAllowed: allowed, intervalS: 240, pulls: true },
  })
  running.push(comparing)
  return { comparing, calls, lines }
}

let deliveries = 0
const pushTo = (repository: string) =>
  store.accept({
    ...{ repository, sha: 'a'.repeat(40), ref: { kind: 'branch', name: 'main' }, defaultBranch: 'main' },
    ...{ cache: true, source: { kind: 'webhook', delivery: `${deliveries++}` } },
  })

const last = async (repository: string) => (await store.comparisons.last([repository])).get(repository)

test('one of several servers compares each repository once when it starts, and the next one when that ends', async () => {
  for (const name of ['acme/one', 'acme/two', 'acme/three']) await pushTo(name)
  const first = server()
  await expect.poll(() => first.calls.toSorted()).toEqual(['acme/one', 'acme/three', 'acme/two'])
  const second = server()
  // Due at once, from its first webhook on: for the server that compares.
  await pushTo('acme/four')
  await expect.poll(() => first.calls).toContain('acme/four')
  expect(second.calls).toEqual([])
  await first.comparing.stop()
  await expect
    .poll(() => second.calls.toSorted())
    .toEqual(['acme/four', 'acme/one', 'acme/three', 'acme/two'])
  expect(first.calls).toHaveLength(4)
})

test('an error of one repository is logged once, shown, and keeps no other from being compared', async () => {
  await pushTo('acme/broken')
  await pushTo('acme/secret')
  const gone = new ConveyorError('not_found', 'repository acme/broken is gone', { hint: 'Look for it' })
  const { lines, calls } = server({
    heads: () => Promise.reject(gone),
    allowed: (name) => name !== 'acme/secret',
  })
  await expect.poll(() => last('acme/broken')).toMatchObject({ error: 'repository acme/broken is gone' })
  await expect
    .poll(() => last('acme/secret'))
    .toMatchObject({ error: expect.stringContaining('acme/secret') })
  expect(calls).toEqual(['acme/broken'])
  await store.comparisons.restart()
  await expect.poll(() => calls).toHaveLength(2)
  expect(lines.filter((line) => line.includes('is gone'))).toEqual([
    'repository acme/broken is gone. Look for it',
  ])
})

test('a server that ends stops what it is comparing', async () => {
  await pushTo('acme/slow')
  const held = Promise.withResolvers<never[]>()
  const { comparing, calls } = server({ heads: () => held.promise })
  await expect.poll(() => calls).toEqual(['acme/slow'])
  const stopped = comparing.stop()
  held.reject(new Error('aborted'))
  await stopped
  expect(await last('acme/slow')).toBeUndefined()
  expect(await store.leases.take('comparing heads', 'another', 1)).toBe(true)
})
