import { setImmediate as tick } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Background } from '../../src/lib/util/background.ts'

/** Work that records when it begins, and ends when told to. */
function noted(into: string[], name: string) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const work = async (signal: AbortSignal) => {
    into.push(name)
    await Promise.race([promise, new Promise((end) => signal.addEventListener('abort', end))])
    if (signal.aborted) into.push(`${name} was ended`)
  }
  return { work, end: resolve }
}

test('foreground work is never delayed: background tasks wait for it, one at a time, only the newest of each name', async () => {
  const begun: string[] = []
  const background = new Background()
  const [build, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const building = [background.before(() => build.promise), background.before(() => other.promise)]
  const [old, newer, last] = [noted(begun, 'old'), noted(begun, 'newer'), noted(begun, 'last')]
  background.add('a', old.work)
  background.add('a', newer.work)
  background.add('b', last.work)
  build.resolve()
  await building[0]
  expect(begun).toEqual([])
  other.reject(new Error('it failed'))
  await expect(building[1]).rejects.toThrow('it failed')
  expect(begun).toEqual(['newer'])

  // Another build does not wait for running work, but no more work begins.
  const next = Promise.withResolvers<void>()
  const urgent = background.before(() => next.promise)
  newer.end()
  await tick()
  expect(begun).toEqual(['newer'])
  next.resolve()
  await urgent
  expect(begun).toEqual(['newer', 'last'])
  last.end()
  await background.close(0)
})

test('closing drops waiting tasks, and aborts a running one after a timeout', async () => {
  const begun: string[] = []
  const background = new Background()
  const [one, two] = [noted(begun, 'one'), noted(begun, 'two')]
  background.add('one', one.work)
  background.add('two', two.work)
  await background.close(0)
  expect(begun).toEqual(['one', 'one was ended'])
  background.add('two', two.work)
  expect(begun).toHaveLength(2)
})
