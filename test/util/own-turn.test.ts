import { expect, test } from 'vitest'
import { inOwnTurn } from '../../src/lib/util/own-turn.ts'

test('no two pieces of work run in one turn of the event loop', async () => {
  let turn = 0
  const timer = setInterval(() => {}, 1)
  const count = () => {
    turn += 1
    if (turn < 100) setImmediate(count)
  }
  setImmediate(count)
  const turns = await Promise.all(Array.from({ length: 5 }, () => inOwnTurn(() => turn)))
  clearInterval(timer)
  expect(new Set(turns).size).toBe(5)
})

test('work that throws does not keep the next from running', async () => {
  const failing = inOwnTurn(() => {
    throw new Error('no')
  })
  const next = inOwnTurn(() => 1)
  await expect(failing).rejects.toThrow('no')
  await expect(next).resolves.toBe(1)
})
