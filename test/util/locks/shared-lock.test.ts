import { expect, test } from 'vitest'
import { SharedLock } from '../../../src/lib/util/locks/shared-lock.ts'

const never = new AbortController().signal

/** Tasks that end when the test says so, and which of them are running. */
function works() {
  const builds = new SharedLock()
  const running = new Set<string>()
  const ends = new Map<string, () => void>()
  return {
    builds,
    running,
    begin(name: string, alone: boolean, signal = never) {
      return builds.run(alone, signal, async () => {
        running.add(name)
        await new Promise<void>((resolve) => ends.set(name, resolve))
        running.delete(name)
      })
    },
    end: (name: string) => ends.get(name)?.(),
  }
}

const names = (running: Set<string>) => [...running].toSorted()
const turn = () => new Promise((resolve) => setImmediate(resolve))

test('runs builds in parallel, and an exclusive one when the others have ended', async () => {
  const { builds, running, begin, end } = works()
  const all = [begin('a', false), begin('b', false), begin('alone', true), begin('alone too', true)]
  await turn()
  expect(names(running)).toEqual(['a', 'b'])
  expect(builds.full.aborted).toBe(true)
  end('a')
  await turn()
  expect(names(running)).toEqual(['b'])
  end('b')
  await turn()
  expect(names(running)).toEqual(['alone'])
  all.push(begin('c', false))
  await turn()
  expect(names(running)).toEqual(['alone'])
  end('alone')
  await turn()
  const next = names(running)
  expect(next).toHaveLength(1)
  for (const name of ['alone too', 'c', 'alone too']) {
    end(name)
    await turn()
  }
  await Promise.all(all)
  expect(builds.full.aborted).toBe(false)
})

test('accepts work again when no exclusive work runs or waits', async () => {
  const { builds, begin, end } = works()
  const alone = begin('alone', true)
  let room = false
  const waiting = builds.room(never).then(() => {
    room = true
  })
  await turn()
  expect(room).toBe(false)
  end('alone')
  await alone
  await waiting
  const full = begin('again', true)
  await builds.room(AbortSignal.abort())
  end('again')
  await full
})

test('never starts work that was aborted while waiting, and survives failures', async () => {
  const { builds, running, begin, end } = works()
  const first = begin('first', false)
  const stop = new AbortController()
  const stopped = begin('alone', true, stop.signal)
  stop.abort(new Error('stopped'))
  await expect(stopped).rejects.toThrow('stopped')
  expect(builds.full.aborted).toBe(false)
  await expect(builds.run(false, never, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed')
  end('first')
  await first
  const last = begin('last', true)
  await turn()
  expect(names(running)).toEqual(['last'])
  end('last')
  await last
})
