import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { requestBuild, sendIdle, sendOverdue } from '../../src/lib/pipeline/accept.ts'
import { memoryQueue } from '../../src/lib/queue/memory.ts'
import type { Queue } from '../../src/lib/queue/queue.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { OTHER_SHA, push } from '../store/contract/subject.ts'

/** Accepted builds, and a queue that may lose them. */

const HOUR_MS = 3_600_000

let clock: number
let store: BuildStore
let queue: Queue
beforeEach(async () => {
  clock = Date.parse('2030-01-02T03:04:05.678Z')
  store = await sqliteBuildStore({ file: ':memory:', now: () => new Date(clock) })
  queue = emptyQueue()
})
afterEach(() => Promise.all([queue.close(), store.close()]))

/** It outlives processes, as far as they know, and may deliver a build twice. */
function emptyQueue(): Queue {
  return { ...memoryQueue({ shared: true }), durable: true }
}

const parts = () => ({ store, queue, log: () => {} })

async function accepted(sha?: string): Promise<Build> {
  const { build } = await requestBuild(push('main', sha ? { sha } : {}), parts())
  await expect.poll(async () => (await store.unqueued(0)).length).toBe(0)
  return build
}

async function purge(): Promise<void> {
  await queue.close()
  queue = emptyQueue()
}

const depth = async () => (await queue.depth?.())?.ready

describe('a build that the queue has lost', () => {
  test('is queued again within the hour, whether it waits or its worker is gone', async () => {
    const waiting = await accepted()
    const abandoned = await accepted(OTHER_SHA)
    await store.claimFor(abandoned.id, 30)
    await purge()
    expect(await sendOverdue(parts())).toBe(0)
    expect(await sendIdle(parts())).toBe(0)
    clock += HOUR_MS + 30_000
    expect(await sendIdle(parts())).toBe(2)
    const ids = [
      await queue.receive(new AbortController().signal),
      await queue.receive(AbortSignal.timeout(5000)),
    ]
    expect(ids.map((job) => job?.buildId)).toEqual([waiting.id, abandoned.id])
    expect(await store.claimFor(abandoned.id, 30)).toMatchObject({ attempt: 2 })
  })

  test('is looked for once an hour, whatever the number of servers', async () => {
    await accepted()
    clock += HOUR_MS
    expect(await Promise.all([sendIdle(parts()), sendIdle(parts())])).toEqual([1, 0])
    clock += HOUR_MS - 1000
    expect(await sendIdle(parts())).toBe(0)
    clock += 1000
    expect(await sendIdle(parts())).toBe(1)
  })

  test('is looked for again soon if the queue did not take it', async () => {
    await accepted()
    clock += HOUR_MS
    const down: Queue = {
      ...queue,
      send: async () => {
        throw new ConveyorError('unavailable', 'the queue is down')
      },
    }
    await expect(sendIdle({ ...parts(), queue: down })).rejects.toThrow('the queue is down')
    expect(await sendIdle(parts())).toBe(1)
  })
})

test('a build that the queue still has is not queued twice, and one that runs goes on', async () => {
  await accepted()
  const running = await accepted(OTHER_SHA)
  clock += HOUR_MS
  await store.claimFor(running.id, 30)
  expect(await sendIdle(parts())).toBe(1)
  expect(await depth()).toBe(2)
  expect(await store.claimFor(running.id, 30)).toBe('held')
})
