import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { recover } from '../../src/lib/app/recover.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { fileLogStore } from '../../src/lib/logs/file.ts'
import type { LogStore } from '../../src/lib/logs/log-store.ts'
import { memoryQueue } from '../../src/lib/queue/memory.ts'
import type { Queue } from '../../src/lib/queue/queue.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { Releaser } from '../../src/lib/util/lifecycle.ts'
import { failed, push } from '../store/contract/subject.ts'
import { tempDir } from '../support/temp.ts'

/** What an earlier process left, with a queue in memory. */

let stack: AsyncDisposableStack
let store: BuildStore
let queue: Queue
let logs: LogStore
let lines: string[]
beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const dir = stack.use(await tempDir())
  store = stack.adopt(await sqliteBuildStore({ file: `${dir.path}/conveyor.db` }), (it) => it.close())
  queue = stack.adopt(memoryQueue({}), (it) => it.close())
  logs = stack.adopt(fileLogStore({ dir: `${dir.path}/logs` }), (it) => it.close())
  lines = []
})
afterEach(() => stack.disposeAsync())

/** A build that has ended, but its log has not. */
async function ended(commit: string): Promise<string> {
  const { build } = await store.accept(push('main', { sha: commit.repeat(40) }))
  await store.claim(build.id)
  await store.finish(build.id, 1, 1, failed())
  const writer = await logs.open(build.id)
  await writer.write(commit)
  await writer.close()
  return build.id
}

const start = (with_: LogStore) => {
  const releaser = stack.use(new Releaser((line) => lines.push(line)))
  return recover({ store, queue, logs: with_ }, releaser, (line) => lines.push(line), 20)
}

test('builds start although the storage of logs is down, and logs are ended once it is back', async () => {
  const [one, other] = [await ended('a'), await ended('b')]
  const { build } = await store.accept(push('main', { sha: 'c'.repeat(40) }))
  const down = new Set([one, other])
  const open = async (id: string) => {
    if (down.has(id)) throw new ConveyorError('unavailable', 'no answer')
    return logs.open(id)
  }
  await start({ ...logs, open })
  expect((await queue.receive(AbortSignal.timeout(5000), { warm: [] }))?.buildId).toBe(build.id)
  await expect.poll(() => lines).toHaveLength(1)
  // Each by itself.
  down.delete(other)
  expect(await text(logs.read(other))).toBe('b')
  down.delete(one)
  expect(await text(logs.read(one))).toBe('a')
  expect(lines).toEqual(['ending the logs of an earlier process (2 are left): no answer'])
})

test('builds start although ending a log takes long', async () => {
  await ended('a')
  const { build } = await store.accept(push('main', { sha: 'c'.repeat(40) }))
  const arrived = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  const open = async (id: string) => {
    arrived.resolve()
    await gate.promise
    return logs.open(id)
  }
  await start({ ...logs, open })
  expect((await queue.receive(AbortSignal.timeout(5000), { warm: [] }))?.buildId).toBe(build.id)
  await arrived.promise
  gate.resolve()
})
