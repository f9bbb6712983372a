import { afterEach, beforeEach, expect, test } from 'vitest'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { removeLeftovers } from '../../../src/lib/pipeline/attempts/leftovers.ts'
import type { BuildContainer } from '../../../src/lib/runner/runner.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { failed, push } from '../../store/contract/subject.ts'

let store: BuildStore
let containers: BuildContainer[]
let removed: string[]
const lines: string[] = []
beforeEach(async () => {
  store = await sqliteBuildStore({ file: ':memory:' })
  containers = []
  removed = []
  lines.length = 0
})
afterEach(() => store.close())

let commits = 0
/** A build in its so-many-th attempt. */
async function building(attempts: number): Promise<string> {
  const { build } = await store.accept(push('main', { sha: (++commits).toString(16).padStart(40, '0') }))
  for (let i = 0; i < attempts; i++) await store.claim(build.id)
  return build.id
}

async function ended(): Promise<string> {
  const id = await building(1)
  await store.finish(id, 1, 1, failed())
  return id
}

function container(
  name: string,
  buildId: string,
  attempt: number | null,
  remove?: () => Promise<void>,
): void {
  const removes = async () => void removed.push(name)
  containers.push({ buildId, attempt, remove: remove ?? removes })
}

const run = () => {
  const parts = { store, log: (line: string) => void lines.push(line) }
  return removeLeftovers({ ...parts, container: { run: async () => {}, containers: async () => containers } })
}

test('what belongs to an ended build or an earlier attempt is removed, and nothing else', async () => {
  container('of an ended build', await ended(), 1)
  container('of an ended build, by an earlier version', await ended(), null)
  const second = await building(2)
  container('of the first attempt', second, 1)
  container('of the second attempt', second, 2)
  container('of the second attempt, by an earlier version', second, null)
  container('of a build that is retried', await building(0), 1)
  container('of another store', '00000000-0000-4000-8000-000000000000', 1)
  container('of nobody', '', null)
  await run()
  expect(removed).toEqual([
    'of an ended build',
    'of an ended build, by an earlier version',
    'of the first attempt',
  ])
  expect(lines).toHaveLength(3)
  expect(lines[0]).toMatch(/^removed a container that an earlier attempt at acme\/app@0000000 left running$/)
})

test('one that cannot be removed keeps no other one', async () => {
  container('', await ended(), 1, async () => {
    throw new ConveyorError('unavailable', 'the engine is busy')
  })
  container('another', await ended(), 1)
  await expect(run()).rejects.toThrow('the engine is busy')
  expect(removed).toEqual(['another'])
})
