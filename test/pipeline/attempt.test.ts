import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { Redactor } from '../../src/lib/logs/redact.ts'
import { cancelBuild } from '../../src/lib/pipeline/control/cancel.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { until } from '../support/test-server.ts'
import { openWorkshop, type Workshop } from './control/workshop.ts'

/** Attempts at builds while the store or the logs fail. */

let shop: Workshop
beforeEach(async () => {
  shop = await openWorkshop()
})
afterEach(() => shop[Symbol.asyncDispose]())

const lost = () => new ConveyorError('unavailable', 'the connection was lost')
const noJobs = async () => {
  const depth = await shop.queue.depth?.()
  return depth?.ready === 0 && depth.leased === 0
}

describe('a store that fails', () => {
  test('after it has stored the success does not undo it', async () => {
    const store: BuildStore = {
      ...shop.store,
      async finish(...args) {
        await shop.store.finish(...args)
        throw lost()
      },
    }
    const { id } = await shop.push()
    shop.work({ store, retryDelays: [3600] })
    expect(await shop.ended(id)).toMatchObject({ state: 'succeeded', attempt: 1 })
    expect(await shop.log(id)).not.toContain('error')
    await until(noJobs)
    await until(async () => (await shop.store.unreported()).length === 0)
    expect(shop.github.statuses.at(-1)).toMatchObject({ state: 'success' })
    expect(shop.lines).toContain('acme/app@aaaaaaa: it succeeded, and then: the connection was lost')
  })

  test('while the tags of a failed build are checked does not hide why it failed', async () => {
    let isDown = false
    shop.build = async () => {
      isDown = true
      throw new ConveyorError('build_failed', 'RUN false failed')
    }
    const store: BuildStore = {
      ...shop.store,
      async get(id) {
        if (!isDown) return shop.store.get(id)
        isDown = false
        throw lost()
      },
    }
    const { id } = await shop.push()
    shop.work({ store })
    expect(await shop.ended(id)).toMatchObject({ state: 'failed', error: 'RUN false failed' })
  })
})

describe('a log that cannot be opened', () => {
  test('at first says in the end why the build failed, and is ended', async () => {
    let opened = 0
    const logs = {
      ...shop.logs,
      async open(id: string) {
        if (opened++ === 0) throw new ConveyorError('unavailable', 'the disk is full')
        return shop.logs.open(id)
      },
    }
    const { id } = await shop.push()
    shop.work({ logs, retryDelays: [] })
    expect(await shop.ended(id)).toMatchObject({ state: 'failed', error: 'the disk is full' })
    expect(await shop.log(id)).toBe('\nerror: the disk is full\n\ngiving up after 1 attempt\n')
  })

  test('leaves the error to the log of the process, without the secrets of the build', async () => {
    const logs = {
      ...shop.logs,
      open: async () => {
        throw new ConveyorError('unavailable', 'PUT https://x:hunter22@logs.example.com failed')
      },
    }
    const newRedactor = () => {
      const redactor = new Redactor()
      redactor.add('hunter22')
      return redactor
    }
    const { id } = await shop.push()
    shop.work({ logs, newRedactor, retryDelays: [] })
    expect(await shop.ended(id)).toMatchObject({ state: 'failed' })
    await until(noJobs)
    expect(shop.lines.join('\n')).toContain('error: PUT https://x:***@logs.example.com failed')
  })
})

describe('the container of an attempt whose process died is removed', () => {
  async function died(): Promise<string> {
    const { id } = await shop.push()
    await shop.store.claim(id)
    shop.left.push({ buildId: id, attempt: 1 })
    return id
  }

  test('by the one that finds that it was the last', async () => {
    const id = await died()
    shop.work({ retryDelays: [] })
    expect(await shop.ended(id)).toMatchObject({ state: 'failed', attempt: 2 })
    expect(shop.left).toEqual([])
    expect(shop.built).toEqual([])
  })

  test('by the one that finds that it was cancelled', async () => {
    const id = await died()
    await cancelBuild(id, 'ada', shop.control)
    shop.work()
    expect(await shop.ended(id)).toMatchObject({ state: 'cancelled', attempt: 2 })
    expect(shop.left).toEqual([])
    expect(shop.built).toEqual([])
  })

  test('before the next one builds', async () => {
    const id = await died()
    const leftThen: object[] = []
    shop.build = async () => void leftThen.push(shop.left)
    shop.work()
    expect(await shop.ended(id)).toMatchObject({ state: 'succeeded', attempt: 2 })
    expect(leftThen).toEqual([[]])
  })

  test('but not that of a later attempt, which another process runs in the same engine', async () => {
    const id = await died()
    const later = { buildId: id, attempt: 3 }
    shop.left.push(later)
    shop.work({ retryDelays: [] })
    await shop.ended(id)
    expect(shop.left).toEqual([later])
  })

  test('unless the engine is down, which the log of the process says', async () => {
    const id = await died()
    await cancelBuild(id, 'ada', shop.control)
    const containers = async () => {
      throw new ConveyorError('unavailable', 'the engine is down')
    }
    shop.work({ container: { run: async () => {}, containers } })
    expect(await shop.ended(id)).toMatchObject({ state: 'cancelled' })
    expect(shop.lines).toContain('acme/app@aaaaaaa: removing what earlier attempts left: the engine is down')
  })
})
