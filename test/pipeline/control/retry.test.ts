import { afterEach, beforeEach, expect, test } from 'vitest'
import { ConflictError, ConveyorError } from '../../../src/lib/core/errors.ts'
import { cancelBuild } from '../../../src/lib/pipeline/control/cancel.ts'
import { retryBuild } from '../../../src/lib/pipeline/control/retry.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { failed, OTHER_SHA, push, request, SHA } from '../../store/contract/subject.ts'
import { openWorkshop, type Workshop } from './workshop.ts'

/** Ended builds that are built again. */

const AT = '2030-01-01T00:00:00.000Z'

let shop: Workshop
beforeEach(async () => {
  shop = await openWorkshop()
})
afterEach(() => shop[Symbol.asyncDispose]())

async function fail(id: string): Promise<void> {
  const build = await shop.store.claim(id)
  expect(await shop.store.finish(id, build?.attempt ?? 0, 9, failed())).toBe('finished')
}

test('a retry has all refs of the build, each at the position of its push', async () => {
  const { id } = await shop.push()
  await shop.push({ ref: { kind: 'branch', name: 'dev' } })
  await shop.push({ ref: { kind: 'tag', name: 'v1' } })
  await fail(id)
  const before = await shop.store.get(id)
  const { build, outcome } = await retryBuild(id, {}, shop.control)
  expect(outcome).toBe('created')
  expect(build).toMatchObject({ state: 'pending', refs: before?.refs, defaultBranch: 'main', cache: true })
  expect(build.pushOrder).toBe(before?.pushOrder)
  shop.work()
  expect((await shop.ended(build.id)).state).toBe('succeeded')
  expect(shop.built).toEqual([build.id])
  expect(shop.tags.toSorted()).toEqual(['dev', 'latest', 'main', 'v1'])
})

test('a retry of an old push does not move the tags back', async () => {
  const { id } = await shop.push()
  await fail(id)
  const worker = shop.work()
  const newer = await shop.push({ sha: OTHER_SHA })
  await shop.ended(newer.id)
  shop.tags.length = 0
  const { build } = await retryBuild(id, {}, shop.control)
  expect((await shop.ended(build.id)).state).toBe('succeeded')
  await worker.stop()
  expect(shop.tags).toEqual([])
})

test('a retry of the head of a pull request moves its tag, although it was elsewhere since', async () => {
  const ref = { kind: 'pull' as const, name: '7' }
  const { id } = await shop.push({ ref })
  await fail(id)
  const worker = shop.work()
  await shop.ended((await shop.push({ ref, sha: OTHER_SHA })).id)
  const pull = {
    ...{ repository: 'acme/app', number: 7, title: 'Greet', author: 'ada', open: true },
    head: { sha: SHA, branch: 'topic', repository: 'acme/app' },
  }
  shop.tags.length = 0
  // Its head is another commit.
  await shop.store.pulls.put({ ...pull, head: { ...pull.head, sha: OTHER_SHA }, updatedAt: AT })
  const old = await retryBuild(id, {}, shop.control)
  expect((await shop.ended(old.build.id)).state).toBe('succeeded')
  expect(shop.tags).toEqual([])
  await shop.store.pulls.put({ ...pull, updatedAt: AT })
  const { build } = await retryBuild(id, {}, shop.control)
  expect((await shop.ended(build.id)).state).toBe('succeeded')
  await worker.stop()
  expect(shop.tags).toEqual(['pr-7'])
})

test('a retry of a commit without a ref withholds what the build withheld', async () => {
  const withheld = [{ tag: 'latest', reason: 'no push announced it' }]
  const { build: first } = await shop.store.accept(request({ withheld }))
  await fail(first.id)
  const { build } = await retryBuild(first.id, {}, shop.control)
  expect(build).toMatchObject({ refs: [], pushOrder: 0, withheld })
})

test('a retry of an unsigned push asks the git server again', async () => {
  const { build: first } = await shop.store.accept(push('main', { unproven: true }))
  await fail(first.id)
  const { build } = await retryBuild(first.id, {}, shop.control)
  expect(build.refs).toEqual(first.refs)
  expect(build.refs[0]).toMatchObject({ unproven: true })
})

test.each([
  [true, undefined, true],
  [false, undefined, false],
  [true, false, false],
  [false, true, true],
])('cache: a build with %s, retried with %s, has %s', async (cache, asked, expected) => {
  const { id } = await shop.push({ cache })
  await fail(id)
  const { build } = await retryBuild(id, { cache: asked }, shop.control)
  expect(build.cache).toBe(expected)
})

test('a cancelled build can be retried', async () => {
  const { id } = await shop.push()
  await cancelBuild(id, 'ada', shop.control)
  const { build, outcome } = await retryBuild(id, {}, shop.control)
  expect(outcome).toBe('created')
  expect(build.cancel).toBeUndefined()
})

test('a build that has not ended is refused, by its name', async () => {
  const { id } = await shop.push()
  const refused = retryBuild(id, {}, shop.control)
  await expect(refused).rejects.toThrow(ConflictError)
  await expect(refused).rejects.toThrow(`build ${id} of acme/app@aaaaaaa has not ended: it is pending`)
  await shop.store.claim(id)
  await expect(retryBuild(id, {}, shop.control)).rejects.toThrow('it is building')
})

test('an ended build whose commit is being built is refused, with the name of the other build', async () => {
  const { id } = await shop.push()
  await fail(id)
  const { build } = await retryBuild(id, {}, shop.control)
  await expect(retryBuild(id, {}, shop.control)).rejects.toThrow(
    `build ${build.id} of acme/app@${SHA.slice(0, 7)}`,
  )
})

test('two retries at once make one build', async () => {
  const { id } = await shop.push()
  await fail(id)
  const retries = await Promise.allSettled([
    retryBuild(id, {}, shop.control),
    retryBuild(id, {}, shop.control),
  ])
  const builds = retries.flatMap((one) => (one.status === 'fulfilled' ? [one.value.build.id] : []))
  expect(new Set(builds).size).toBe(1)
  expect(await shop.store.unfinished()).toHaveLength(1)
})

test('a retry that the store breaks off builds what it has accepted', async () => {
  const { id } = await shop.push()
  await shop.push({ ref: { kind: 'branch', name: 'dev' } })
  await fail(id)
  let accepted = 0
  const store: BuildStore = {
    ...shop.store,
    async accept(...args) {
      if (accepted++ > 0) throw new ConveyorError('unavailable', 'the disk is full')
      return shop.store.accept(...args)
    },
  }
  await expect(retryBuild(id, {}, { ...shop.control, store })).rejects.toThrow('the disk is full')
  const [build] = await shop.store.unfinished()
  shop.work()
  expect(await shop.ended(build?.id ?? '')).toMatchObject({ state: 'succeeded', refs: [{ name: 'main' }] })
})

test('a build that does not exist is not found', async () => {
  await expect(retryBuild('nope', {}, shop.control)).rejects.toMatchObject({ kind: 'not_found' })
})
