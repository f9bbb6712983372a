import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { KeyedMutex } from '../../../src/lib/util/locks/keyed-mutex.ts'

test('tasks of one key run one after the other, in order; those of other keys in parallel', async () => {
  const mutex = new KeyedMutex()
  const events: string[] = []
  const gates = new Map(['a1', 'a2', 'b1'].map((name) => [name, Promise.withResolvers<string>()]))
  const task = (name: string) => async () => {
    events.push(`${name} begins`)
    const result = await gates.get(name)?.promise
    events.push(`${name} ends`)
    return result
  }
  const a1 = mutex.run('a', task('a1'))
  const a2 = mutex.run('a', task('a2'))
  const b1 = mutex.run('b', task('b1'))
  await turn()
  expect(events).toEqual(['a1 begins', 'b1 begins'])
  gates.get('a2')?.resolve('2')
  gates.get('b1')?.resolve('b')
  gates.get('a1')?.resolve('1')
  expect(await Promise.all([a1, a2, b1])).toEqual(['1', '2', 'b'])
  expect(events.indexOf('a2 begins')).toBeGreaterThan(events.indexOf('a1 ends'))
})

test('a failed task fails only its own caller', async () => {
  const mutex = new KeyedMutex()
  const failing = mutex.run('a', async () => {
    throw new Error('mine')
  })
  const next = mutex.run('a', async () => 'fine')
  await expect(failing).rejects.toThrow('mine')
  expect(await next).toBe('fine')
})

test('a task that is aborted while waiting never runs, and later ones still wait for earlier ones', async () => {
  const mutex = new KeyedMutex()
  const gate = Promise.withResolvers<void>()
  const abort = new AbortController()
  const events: string[] = []
  const first = mutex.run('a', async () => {
    await gate.promise
    events.push('first')
  })
  const second = mutex.run('a', async () => events.push('second'), abort.signal)
  const third = mutex.run('a', async () => events.push('third'))
  abort.abort(new Error('no more'))
  await expect(second).rejects.toThrow('no more')
  await turn()
  expect(events).toEqual([])
  gate.resolve()
  await Promise.all([first, third])
  expect(events).toEqual(['first', 'third'])
})
