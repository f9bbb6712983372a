import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { readiness } from '../../src/lib/app/readiness.ts'

test('checks once for all callers at about the same time', async () => {
  let asked = 0
  const ready = readiness({ parts: { store: async () => ++asked }, log: () => {}, freshMs: 60_000 })
  const answers = await Promise.all(Array.from({ length: 100 }, () => ready()))
  expect(new Set(answers.map((answer) => JSON.stringify(answer)))).toEqual(
    new Set(['{"ready":true,"parts":{"store":"ok"}}']),
  )
  expect(asked).toBe(1)
})

test('checks again after a while', async () => {
  let asked = 0
  const ready = readiness({ parts: { store: async () => ++asked }, log: () => {}, freshMs: 50 })
  await ready()
  await sleep(60)
  await ready()
  expect(asked).toBe(2)
})

test('names the components that fail or do not respond, and logs the reason once', async () => {
  const lines: string[] = []
  let works = false
  const ready = readiness({
    parts: {
      store: async () => {
        if (!works) throw new Error('the disk is full')
      },
      queue: () => (works ? Promise.resolve() : new Promise(() => {})),
      engine: async () => {},
    },
    log: (line) => lines.push(line),
    limitMs: 50,
    freshMs: 0,
  })
  const parts = { store: 'unavailable', queue: 'unavailable', engine: 'ok' }
  expect(await ready()).toEqual({ ready: false, parts })
  await sleep(1)
  expect(await ready()).toEqual({ ready: false, parts })
  works = true
  await sleep(1)
  expect((await ready()).ready).toBe(true)
  expect(lines).toEqual([
    expect.stringMatching(/^not ready: store: .*the disk is full/),
    expect.stringMatching(/^not ready: queue: .*no response within 0.05 s/),
    'ready: store has recovered',
    'ready: queue has recovered',
  ])
})
