import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConflictError, ConveyorError } from '../../../src/lib/core/errors.ts'
import { cancelBuild } from '../../../src/lib/pipeline/control/cancel.ts'
import { CancelWatch } from '../../../src/lib/pipeline/control/cancel-watch.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { OTHER_SHA, SHA } from '../../store/contract/subject.ts'
import { until } from '../../support/test-server.ts'
import { endless, openWorkshop, type Workshop } from './workshop.ts'

/** Builds that somebody cancels, from the store to the log, the status and the queue. */

let shop: Workshop
beforeEach(async () => {
  shop = await openWorkshop()
})
afterEach(() => shop[Symbol.asyncDispose]())

const cancelled = { state: 'cancelled', error: 'cancelled by ada', errorKind: 'cancelled' }

async function expectCancelled(id: string, sha = SHA): Promise<void> {
  expect(await shop.ended(id)).toMatchObject(cancelled)
  expect(await shop.log(id)).toMatch(/(^|\n)cancelled by ada\n$/)
  await until(async () => (await shop.store.unreported()).length === 0)
  const last = shop.github.statuses.findLast((status) => status.sha === sha)
  expect(last).toMatchObject({
    state: 'error',
    description: 'Cancelled by ada.',
    target_url: `https://conveyor.example.com/logs/${id}`,
  })
}

describe('a build that waits', () => {
  test('ends at once, and its job is dropped without building it', async () => {
    const { id } = await shop.push()
    const answer = await cancelBuild(id, 'ada', shop.control)
    expect(answer).toMatchObject({ ...cancelled, cancel: { by: 'ada' }, startedAt: null })
    await expectCancelled(id)
    expect(await shop.log(id)).toBe('cancelled by ada\n')

    const next = await shop.push({ sha: OTHER_SHA })
    const worker = shop.work()
    expect((await shop.ended(next.id)).state).toBe('succeeded')
    await worker.stop()
    expect(shop.built).toEqual([next.id])
    expect(await shop.log(id)).toBe('cancelled by ada\n')
    // The queue takes a build again only once its job was acknowledged.
    await shop.queue.send({ buildId: id, repository: 'acme/app' })
    expect(await shop.queue.receive(AbortSignal.timeout(5000))).toMatchObject({ buildId: id })
  })

  test('for its next attempt, too', async () => {
    shop.build = async () => {
      throw new ConveyorError('unavailable', 'the engine is gone')
    }
    const { id } = await shop.push()
    const worker = shop.work({ retryDelays: [3600] })
    await until(async () => (await shop.store.get(id))?.state === 'pending' && shop.built.length === 1)
    await cancelBuild(id, 'ada', shop.control)
    await expectCancelled(id)
    expect(await shop.log(id)).toMatch(/trying again in 3600 s\ncancelled by ada\n$/)
    await worker.stop()
    expect(shop.built).toEqual([id])
  })

  test('ends although its log cannot be written, which the log of the server says', async () => {
    const { id } = await shop.push()
    const broken = async () => {
      throw new ConveyorError('unavailable', 'the disk is full')
    }
    const answer = await cancelBuild(id, 'ada', { ...shop.control, logs: { ...shop.logs, open: broken } })
    expect(answer).toMatchObject(cancelled)
    expect(shop.lines).toEqual(['ending the log of acme/app@aaaaaaa: the disk is full'])
  })

  test('ends although its log cannot be written for a long time, which is tried on', async () => {
    const { id } = await shop.push()
    const outage = Promise.withResolvers<void>()
    const open = async () => {
      await outage.promise
      return shop.logs.open(id)
    }
    const answer = await cancelBuild(id, 'ada', { ...shop.control, logs: { ...shop.logs, open } })
    expect(answer).toMatchObject(cancelled)
    outage.resolve()
    expect(await shop.log(id)).toBe('cancelled by ada\n')
  })
})

describe('a build that runs', () => {
  test('is stopped within about a second, and its worker is free for the next one', async () => {
    const { build, running, stopped } = endless()
    shop.build = build
    const { id } = await shop.push()
    shop.work()
    await running
    const answer = await cancelBuild(id, 'ada', shop.control)
    expect(answer).toMatchObject({ state: 'building', cancel: { by: 'ada' } })
    expect(await stopped).toMatchObject({ kind: 'cancelled', message: 'cancelled by ada' })
    shop.build = async () => {}
    const next = await shop.push({ sha: OTHER_SHA })
    await expectCancelled(id)
    expect((await shop.ended(next.id)).state).toBe('succeeded')
    expect(shop.built).toEqual([id, next.id])
    expect(shop.tags).not.toContain(SHA)
  })

  test('ends as cancelled whatever it does by itself at that moment', async () => {
    const outcomes = [
      async () => {}, // succeeds
      async () => {
        throw new ConveyorError('build_failed', 'RUN false failed')
      },
      async () => {
        throw new ConveyorError('unavailable', 'the engine is gone')
      },
      async () => {
        throw new Error('a bug')
      },
    ]
    const worker = shop.work({ retryDelays: [0, 0] })
    for (const [i, outcome] of outcomes.entries()) {
      shop.build = async ({ buildId }) => {
        await cancelBuild(buildId, 'ada', shop.control)
        await outcome()
      }
      const sha = String(i).repeat(40)
      const { id } = await shop.push({ sha })
      await expectCancelled(id, sha)
    }
    await worker.stop()
    expect(shop.tags).toEqual([])
    expect(shop.built).toHaveLength(outcomes.length)
  })

  test('is ended, and not requeued, by a worker that shuts down', async () => {
    const { build, running } = endless()
    shop.build = build
    const { id } = await shop.push()
    const worker = shop.work()
    await running
    await cancelBuild(id, 'ada', shop.control)
    await worker.abort()
    await expectCancelled(id)
  })

  test('is not built again by the worker that takes it over from a dead one', async () => {
    const { id } = await shop.push()
    await shop.store.claim(id) // by a worker that dies
    expect(await cancelBuild(id, 'ada', shop.control)).toMatchObject({ state: 'building' })
    shop.work()
    await expectCancelled(id)
    expect(shop.built).toEqual([])
  })

  test('nor if that worker had other builds, any of which may have killed it', async () => {
    const [one, other] = [await shop.push(), await shop.push({ sha: OTHER_SHA })]
    for (const { id } of [one, other]) await shop.store.claim(id)
    await cancelBuild(one.id, 'ada', shop.control)
    shop.work({ concurrency: 2 })
    await expectCancelled(one.id)
    expect((await shop.ended(other.id)).state).toBe('succeeded')
    expect(shop.built).toEqual([other.id])
  })

  test('can no longer be cancelled while its tags are moved, which the answer says; all are moved', async () => {
    const [moving, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const slow: BuildStore = {
      ...shop.store,
      async moveTags(...args) {
        moving.resolve()
        await goOn.promise
        return shop.store.moveTags(...args)
      },
    }
    const { id } = await shop.push()
    shop.work({ store: slow })
    await moving.promise
    const late = cancelBuild(id, 'ada', shop.control)
    await expect(late).rejects.toThrow(ConflictError)
    await expect(late).rejects.toThrow(/its tags are being moved/)
    goOn.resolve()
    expect((await shop.ended(id)).state).toBe('succeeded')
    expect(shop.tags.toSorted()).toEqual(['latest', 'main'])
  })

  test('belongs to another worker: it is left to that one', async () => {
    const { build, running } = endless()
    shop.build = build
    const { id } = await shop.push()
    const worker = shop.work()
    await running
    await shop.store.claim(id) // another worker
    await cancelBuild(id, 'ada', shop.control)
    await until(() => shop.built.length === 1)
    await sleep(1500) // the watch of the first worker stops it
    expect(await shop.store.get(id)).toMatchObject({ state: 'building', attempt: 2 })
    await worker.stop()
  })
})

describe('the answer', () => {
  test('to a cancel of a build that has ended names its state', async () => {
    const { id } = await shop.push()
    shop.work()
    await shop.ended(id)
    const late = cancelBuild(id, 'ada', shop.control)
    await expect(late).rejects.toThrow(ConflictError)
    await expect(late).rejects.toThrow(
      `build ${id} of acme/app@aaaaaaa cannot be cancelled: it has already ended (succeeded)`,
    )
  })

  test('to a second cancel, too', async () => {
    const { id } = await shop.push()
    await cancelBuild(id, 'ada', shop.control)
    await expect(cancelBuild(id, 'bob', shop.control)).rejects.toThrow('already ended (cancelled)')
  })

  test('of a build that does not exist is not found', async () => {
    await expect(cancelBuild('nope', 'ada', shop.control)).rejects.toMatchObject({ kind: 'not_found' })
  })

  test('keeps a hostile name on one line', async () => {
    const { id } = await shop.push()
    await cancelBuild(id, `a\nerror: \u001b[31m${'x'.repeat(1000)}`, shop.control)
    const log = await shop.log(id)
    expect(log).toMatch(/^cancelled by a error: {2}\[31mx+\n$/)
    expect(log.length).toBeLessThan(150)
  })
})

describe('a push of the same commit', () => {
  test('right after a cancel is built, and its status is the one that stays', async () => {
    const first = endless()
    shop.build = first.build
    const { id } = await shop.push()
    shop.work({ concurrency: 2 })
    await first.running
    await cancelBuild(id, 'ada', shop.control)
    shop.build = async () => {}
    const again = await shop.push()
    expect(again.id).not.toBe(id)
    expect((await shop.ended(again.id)).state).toBe('succeeded')
    expect(await shop.ended(id)).toMatchObject(cancelled)
    await until(async () => (await shop.store.unreported()).length === 0)
    await shop.statuses.idle()
    expect(shop.github.statuses.at(-1)).toMatchObject({ sha: SHA, state: 'success' })
    expect(shop.github.statuses.map(({ state }) => state)).not.toContain('error')
    expect(shop.tags).toContain('main')
  })
})

describe('the watch', () => {
  test('asks once for all builds, and not at all while nothing runs', async () => {
    const asked: string[][] = []
    const watch = new CancelWatch(
      {
        async cancelRequests(ids) {
          asked.push([...ids])
          return asked.length < 3 ? [] : [{ id: 'one', by: 'ada' }]
        },
      },
      () => {},
      { everyMs: 1 },
    )
    await sleep(20)
    expect(asked).toEqual([])
    const seen: string[] = []
    const forgetOne = watch.watch('one', (by) => seen.push(`one ${by}`))
    const forgetOther = watch.watch('other', (by) => seen.push(`other ${by}`))
    await until(() => asked.length > 3)
    expect(asked.slice(0, 4)).toEqual([['one', 'other'], ['one', 'other'], ['one', 'other'], ['other']])
    expect(seen).toEqual(['one ada'])
    forgetOne()
    forgetOther()
    await sleep(20)
    const { length } = asked
    await sleep(20)
    expect(asked).toHaveLength(length)
  })

  test('survives an outage of the store, and logs it once', async () => {
    const lines: string[] = []
    let asked = 0
    const watch = new CancelWatch(
      {
        async cancelRequests() {
          asked += 1
          if (asked < 5) throw new Error('no connection')
          return [{ id: 'one', by: 'ada' }]
        },
      },
      (line) => lines.push(line),
      { everyMs: 1 },
    )
    const { promise, resolve } = Promise.withResolvers<string>()
    watch.watch('one', resolve)
    expect(await promise).toBe('ada')
    expect(lines).toEqual(['looking for cancels: failed: no connection'])
  })
})
