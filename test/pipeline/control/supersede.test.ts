import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build, BuildRequest } from '../../../src/lib/core/build.ts'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { requestBuild } from '../../../src/lib/pipeline/accept.ts'
import { push } from '../../store/contract/subject.ts'
import { until } from '../../support/test-server.ts'
import { endless, openWorkshop, type Workshop } from './workshop.ts'

/** Builds that a newer push of their branch replaces, and those that say nothing to the forge. */

let shop: Workshop
beforeEach(async () => {
  shop = await openWorkshop()
})
afterEach(() => shop[Symbol.asyncDispose]())

const sha = (digit: string) => digit.repeat(40)

async function pushed(digit: string, supersede: BuildRequest['supersede'] = 'queued'): Promise<Build> {
  const { build } = await requestBuild(push('feature', { sha: sha(digit), supersede }), shop.control)
  return build
}

/** An image of the repository, without which the forge hears nothing of builds that never started. */
async function makeImage(): Promise<void> {
  const worker = shop.work()
  expect((await shop.ended((await shop.push({ sha: sha('e') })).id)).state).toBe('succeeded')
  await worker.stop()
}

async function expectSuperseded({ id, sha }: Build, by: string): Promise<void> {
  expect(await shop.ended(id)).toMatchObject({ state: 'cancelled', error: `superseded by ${by}` })
  await until(async () => (await shop.store.unreported()).length === 0)
  const last = shop.github.statuses.findLast((status) => status.sha === sha)
  expect(last).toMatchObject({ state: 'error', description: `Superseded by ${by}.` })
}

describe('a build that a newer push supersedes', () => {
  test('while it waits has a log and a status that say by which, and its job is dropped', async () => {
    await makeImage()
    const old = await pushed('a')
    const newer = await pushed('b')
    await expectSuperseded(old, 'bbbbbbb')
    expect(await shop.log(old.id)).toBe('superseded by bbbbbbb\n')
    const said = `build ${old.id} of acme/app@aaaaaaa is superseded by build ${newer.id} of acme/app@bbbbbbb`
    expect(shop.lines).toEqual([said])
    const worker = shop.work()
    expect((await shop.ended(newer.id)).state).toBe('succeeded')
    await worker.stop()
    expect(shop.built).not.toContain(old.id)
  })

  test('while it runs is stopped, if that is configured', async () => {
    const { build, running, stopped } = endless()
    shop.build = build
    const old = await pushed('a')
    const worker = shop.work()
    await running
    await pushed('b', 'queued')
    expect(await shop.store.get(old.id)).not.toHaveProperty('cancel')
    shop.build = async () => {}
    await pushed('c', 'running')
    await stopped
    await expectSuperseded(old, 'ccccccc')
    expect(await shop.log(old.id)).toMatch(/\nsuperseded by ccccccc\n$/)
    await worker.stop()
  })

  test('just before the process died gets its status and the end of its log from the next one', async () => {
    await makeImage()
    const old = await pushed('a')
    await shop.store.accept(push('feature', { sha: sha('b'), supersede: 'queued' }))
    await shop.statuses.sweep()
    await expectSuperseded(old, 'bbbbbbb')
    const worker = shop.work()
    await shop.log(old.id)
    await worker.stop()
  })
})

describe('a build in a builder image that fails', () => {
  const fails = async () => {
    throw new ConveyorError('build_failed', 'the builder image exited with status 1', { hint: 'See the log' })
  }
  const noFile: Workshop['file'] = async (_repository, _sha, path) => {
    throw new ConveyorError('not_found', `there is no ${path}`)
  }

  async function failed(digit: string): Promise<Build> {
    shop.build = fails
    const worker = shop.work()
    const build = await shop.ended((await shop.push({ sha: sha(digit) })).id)
    await worker.stop()
    await until(async () => (await shop.store.unreported()).length === 0)
    return build
  }
  const statusesOf = (digit: string) =>
    shop.github.statuses.filter((one) => one.sha === sha(digit)).map(({ state }) => state)

  test('sets no status if the forge has no Dockerfile, and there was never an image', async () => {
    shop.file = noFile
    const build = await failed('a')
    const error = 'the builder image exited with status 1; the commit has no Dockerfile. See the log'
    expect(build).toMatchObject({ state: 'failed', error, neutral: true })
    expect(statusesOf('a')).toEqual([])
  })

  test.each<[string, Workshop['file']]>([
    ['has a Dockerfile', async () => 'FROM scratch\n'],
    ['does not know', async () => null],
    [
      'does not answer',
      async () => {
        throw new ConveyorError('unavailable', 'it is down')
      },
    ],
  ])('sets a status if the forge %s', async (_name, file) => {
    shop.file = file
    expect(await failed('a')).not.toHaveProperty('neutral')
    expect(statusesOf('a')).toEqual(['pending', 'failure'])
  })

  test('sets a status if there was an image', async () => {
    await makeImage()
    shop.file = noFile
    expect(await failed('a')).not.toHaveProperty('neutral')
    expect(statusesOf('a')).toEqual(['pending', 'failure'])
  })
})
