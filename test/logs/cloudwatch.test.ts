import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CreateLogStreamCommand,
  DeleteLogStreamCommand,
  PutLogEventsCommand,
} from '@aws-sdk/client-cloudwatch-logs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { CHUNK, cutChunk, decodeEvent, encodeEvent } from '../../src/lib/logs/cloudwatch/events.ts'
import { cloudwatchLogStore } from '../../src/lib/logs/cloudwatch/log-store.ts'
import type { LogStore, ReadLogOptions } from '../../src/lib/logs/log-store.ts'
import { startCloudwatch, type TestCloudwatch } from '../support/aws/cloudwatch-double.ts'
import { projectRoot } from '../support/processes.ts'
import { logStoreContract } from './log-store.contract.ts'

let cloudwatch: TestCloudwatch
beforeAll(async () => {
  cloudwatch = await startCloudwatch()
})
afterAll(() => cloudwatch[Symbol.asyncDispose]())

logStoreContract('cloudwatchLogStore', async () => {
  const options = { group: await cloudwatch.group(), clientConfig: cloudwatch.clientConfig }
  return {
    open: async () => cloudwatchLogStore(options),
    script: `import { cloudwatchLogStore } from ${JSON.stringify(`${projectRoot}src/lib/logs/cloudwatch/log-store.ts`)}
      const store = cloudwatchLogStore(${JSON.stringify(options)})`,
    dispose: async () => {},
  }
})

describe('events', () => {
  const mark = { writer: '0123abcd', number: 7, kind: 'text' } as const
  const roundTrip = (bytes: Buffer) => decodeEvent(encodeEvent(mark, bytes)).bytes()

  test('text is unchanged, followed by a mark', () => {
    expect(encodeEvent(mark, Buffer.from('#12 RUN naïve 🚀\n\tC:\\dir\r\n'))).toBe(
      '#12 RUN naïve 🚀\n\tC:\\dir\r\n[conveyor 0123abcd 7]',
    )
    expect(encodeEvent({ ...mark, kind: 'end' }, Buffer.alloc(0))).toBe('[conveyor 0123abcd 7 end]')
  })

  test('only unusual bytes are escaped', () => {
    const bytes = Buffer.concat([
      Buffer.from('naïve \\ \0 é'),
      Buffer.of(0xff, 0xc3),
      Buffer.from('\ufeff🚀\n'),
    ])
    expect(encodeEvent(mark, bytes)).toBe(
      'naïve \\\\ \\x00 é\\xff\\xc3\\xef\\xbb\\xbf🚀\n[conveyor 0123abcd 7 escaped]',
    )
    expect(roundTrip(bytes)).toEqual(bytes)
  })

  test.each([
    ['its own mark', Buffer.from('a\n[conveyor 0123abcd 8 end]')],
    ['an escaped mark', Buffer.from('\0\n[conveyor 0123abcd 8 escaped]')],
    ['text that looks escaped', Buffer.from('\\x41 \\\\ \0')],
    ['white space', Buffer.from(' \n \n ')],
    ['half a character', Buffer.from('🚀').subarray(0, 3)],
    ['the other half', Buffer.from('🚀').subarray(3)],
    ['a surrogate, which UTF-8 has not', Buffer.of(0xed, 0xa0, 0x80)],
    [
      'overlong forms, and what is beyond Unicode',
      Buffer.of(0xc0, 0xaf, 0xe0, 0x80, 0x80, 0xf4, 0x90, 0x80, 0x80),
    ],
    ['noncharacters', Buffer.from('\ufdd0\uffff\ufffe\ufffd')],
    ['every pair of bytes', Buffer.from(Array.from({ length: 65_536 }, (_, i) => [i >> 8, i & 255]).flat())],
  ])('the bytes survive: %s', (_, bytes) => {
    expect(roundTrip(bytes).equals(bytes)).toBe(true)
  })

  test('random bytes survive, and the worst chunk fits into an event', () => {
    for (let i = 0; i < 50; i++) {
      const bytes = randomBytes(2_000)
      expect(roundTrip(bytes).equals(bytes)).toBe(true)
    }
    const worst = encodeEvent({ ...mark, number: 999_999_999 }, Buffer.alloc(CHUNK, 0xff))
    expect(Buffer.byteLength(worst) + 26).toBeLessThan(256 * 1024)
  })

  test('chunks end with a line, or else a character', () => {
    const lines = Buffer.from(`${'x'.repeat(99)}\n`.repeat(1_000))
    expect(cutChunk(lines)).toBe(61_400)
    expect(cutChunk(lines.subarray(0, 150))).toBe(150)
    const rockets = Buffer.from(`abc${'🚀'.repeat(20_000)}`)
    expect(cutChunk(rockets)).toBe(CHUNK - 1)
    expect(cutChunk(Buffer.alloc(CHUNK + 1, 0x80))).toBe(CHUNK)
  })
})

describe('cloudwatchLogStore', () => {
  let group: string
  let store: LogStore
  let id: string
  const open = (overrides = {}) =>
    cloudwatchLogStore({ group, clientConfig: cloudwatch.clientConfig, ...overrides })
  beforeEach(async () => {
    group = await cloudwatch.group()
    store = open()
    id = randomUUID()
  })
  afterEach(async () => {
    await cloudwatch.set({ visibleAfterMs: 0, hideMs: 0, sparse: false, clockAheadMs: 0 })
    await cloudwatch.set({ throttle: {}, loseAnswers: {}, denied: [] })
    await store.close()
  })

  async function read(options: ReadLogOptions = { follow: false }, from = store): Promise<Buffer> {
    const pieces: Uint8Array[] = []
    for await (const piece of from.read(id, options)) pieces.push(piece)
    return Buffer.concat(pieces)
  }
  const events = async (stream = id) => (await cloudwatch.events(group, stream)).map(({ message }) => message)
  const count = async (operation: string) => (await cloudwatch.requests())[operation] ?? 0

  test('in the console, a log is a stream of lines, each event with its mark', async () => {
    const writer = await store.open(id)
    await writer.write('one\n')
    await writer.write('two\n')
    await writer.end()
    const all = (await events()).join('|')
    const name = /\w{8}/.exec(all.slice(all.indexOf(' ')))?.[0]
    expect(all.replaceAll(` ${name} `, ' NAME ')).toMatch(
      /^\[conveyor NAME 0 begin\]\|one\n(\[conveyor NAME 1\]\|)?two\n\[conveyor NAME [12]\]\|\[conveyor NAME [23] end\]$/,
    )
  })

  test('stream names get the prefix', async () => {
    await using prefixed = {
      store: open({ streamPrefix: 'builds/' }),
      [Symbol.asyncDispose]: () => prefixed.store.close(),
    }
    await (await prefixed.store.open(id)).end()
    expect(await events(`builds/${id}`)).toHaveLength(2)
    expect(() => open({ streamPrefix: 'a:b' })).toThrow(/log stream/)
  })

  test('many short lines need few requests and few events', async () => {
    const before = await count('PutLogEvents')
    const writer = await store.open(id)
    const began = performance.now()
    for (let i = 0; i < 5_000; i++) await writer.write(`line ${i}\n`)
    await writer.end()
    const flushes = Math.ceil((performance.now() - began) / 1_000)
    expect((await count('PutLogEvents')) - before).toBeLessThanOrEqual(flushes + 4)
    expect((await events()).length).toBeLessThanOrEqual(flushes + 5)
    expect(String(await read()).split('\n')).toHaveLength(5_001)
  })

  test('batches stay within the limits even when every byte has to be escaped', async () => {
    const bytes = Buffer.alloc(3_000_000, 0xfe)
    const writer = await store.open(id)
    await writer.write(bytes)
    await writer.end()
    expect((await read()).equals(bytes)).toBe(true)
  })

  test('a reader skips empty pages', async () => {
    const bytes = randomBytes(2_000_000)
    const writer = await store.open(id)
    await writer.write(bytes)
    await writer.end()
    await cloudwatch.set({ sparse: true })
    expect((await read({})).equals(bytes)).toBe(true)
    const again = await store.open(id)
    await again.write('more')
    await again.end()
    expect(
      (await read({ offset: 1_999_999 })).equals(
        Buffer.from([bytes[1_999_999] as number, ...Buffer.from('more')]),
      ),
    ).toBe(true)
  })

  test('waits for events that become visible late and out of order', async () => {
    await cloudwatch.set({ visibleAfterMs: 300, hideMs: 1_500 })
    const following = read({})
    const writer = await store.open(id)
    const lines = Array.from({ length: 9 }, (_, i) => `line ${i}\n`)
    for (const line of lines) {
      await writer.write(line)
      await sleep(400)
    }
    await writer.end()
    expect(String(await following)).toBe(lines.join(''))
  })

  test('many readers of one stream share its polling', async () => {
    const writer = await store.open(id)
    await writer.write('first\n')
    const readers = Array.from({ length: 30 }, () => read({}))
    await sleep(1_500)
    const before = await count('GetLogEvents')
    const began = performance.now()
    await sleep(4_000)
    const seconds = (performance.now() - began) / 1_000
    expect((await count('GetLogEvents')) - before).toBeLessThanOrEqual(Math.ceil(seconds) + 2)
    await writer.write('last\n')
    await writer.end()
    for (const bytes of await Promise.all(readers)) expect(String(bytes)).toBe('first\nlast\n')
  })

  test('readers of many streams send at most ten requests a second', async () => {
    const stop = new AbortController()
    const before = await count('GetLogEvents')
    // From before the first request: what may be sent depends on the time since then.
    const began = performance.now()
    const readers = Array.from({ length: 40 }, async () => {
      for await (const _ of store.read(randomUUID(), { signal: stop.signal }));
    })
    await sleep(4_000)
    const asked = (await count('GetLogEvents')) - before
    const seconds = (performance.now() - began) / 1_000
    expect(asked).toBeLessThanOrEqual(seconds * 10 + 11)
    expect(asked).toBeGreaterThan(0)
    stop.abort()
    await Promise.all(readers)
  })

  test('throttling and lost responses delay a log, but no line is missing or duplicated', async () => {
    const writer = await store.open(id)
    await cloudwatch.set({ throttle: { PutLogEvents: 3, GetLogEvents: 3 }, loseAnswers: { PutLogEvents: 5 } })
    const following = read({})
    const lines = Array.from({ length: 300 }, (_, i) => `${i} ${'x'.repeat(20_000)}\n`)
    for (const line of lines) await writer.write(line)
    await writer.end()
    expect(String(await following) === lines.join('')).toBe(true)
    // The double did store some events twice: the marks are what removes the duplicates.
    const stored = await events()
    expect(new Set(stored).size).toBeLessThan(stored.length)
  })

  test('more failures than the SDK retries: the writer continues', async () => {
    const writer = await store.open(id)
    await cloudwatch.set({ throttle: { PutLogEvents: 8 } })
    await writer.write('kept\n')
    await writer.end()
    expect(String(await read())).toBe('kept\n')
  })

  test('the next attempt appends, even when its clock is behind', async () => {
    const ahead = Date.now() + 3_600_000
    const first = await store.open(id)
    await first.write('one\n')
    await first.close()
    await cloudwatch.client.send(
      new PutLogEventsCommand({
        logGroupName: group,
        logStreamName: id,
        logEvents: [
          { timestamp: ahead, message: 'put here by something else' },
          {
            timestamp: ahead + 1,
            message: encodeEvent({ writer: 'aaaaaaaa', number: 0, kind: 'begin' }, Buffer.alloc(0)),
          },
          {
            timestamp: ahead + 2,
            message: encodeEvent({ writer: 'aaaaaaaa', number: 1, kind: 'text' }, Buffer.from('two\n')),
          },
        ],
      }),
    )
    const third = await store.open(id)
    await third.write('three\n')
    await third.end()
    expect(String(await read({}))).toBe('one\ntwo\nthree\n')
  })

  test('a worker that lost its lease does not end the log of the one that took over', async () => {
    const [old, young] = [await store.open(id), await store.open(id)]
    await old.write('old\n')
    await old.end()
    const reader = store.read(id)[Symbol.asyncIterator]()
    expect(String((await reader.next()).value)).toBe('old\n')
    const next = reader.next()
    expect(await Promise.race([next, sleep(2_000, 'waits')])).toBe('waits')
    await young.write('young\n')
    expect(String((await next).value)).toBe('young\n')
    const last = reader.next()
    await young.end()
    expect(await last).toEqual({ done: true, value: undefined })
  })

  test('a log whose start has expired is the rest; one with a gap is an error', async () => {
    const text = (number: number) => ({
      timestamp: Date.now() + number,
      message: encodeEvent({ writer: 'bbbbbbbb', number, kind: 'text' }, Buffer.from(`${number}\n`)),
    })
    await cloudwatch.client.send(new CreateLogStreamCommand({ logGroupName: group, logStreamName: id }))
    const put = (logEvents: ReturnType<typeof text>[]) =>
      cloudwatch.client.send(new PutLogEventsCommand({ logGroupName: group, logStreamName: id, logEvents }))
    await put([text(4), text(5)])
    expect(String(await read())).toBe('4\n5\n')
    await put([text(7)])
    await expect(read()).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: true,
      message: `log of build ${id} cannot be read: the data after byte 4 is missing, or not available yet`,
    })
  })

  test('no group: the error names it, and the command that creates it', async () => {
    const nowhere = open({ group: '/not/there' })
    const expected = {
      kind: 'not_found',
      message: expect.stringMatching(
        `^log of build ${id} cannot be (read|written): there is no log group /not/there`,
      ),
      hint: expect.stringContaining('`aws logs create-log-group --log-group-name /not/there`'),
    }
    await expect(nowhere.open(id)).rejects.toMatchObject(expected)
    await expect(read({}, nowhere)).rejects.toMatchObject(expected)
    await nowhere.close()
  })

  test('access denied: the error names the permission', async () => {
    await cloudwatch.set({ denied: ['PutLogEvents', 'GetLogEvents'] })
    await expect(store.open(id)).rejects.toMatchObject({
      kind: 'unauthorized',
      hint: expect.stringContaining('logs:CreateLogStream, logs:PutLogEvents'),
    })
    await expect(read({})).rejects.toMatchObject({
      kind: 'unauthorized',
      hint: expect.stringContaining('logs:GetLogEvents'),
    })
  })

  test('a clock that is hours off: an error, because the service drops the events silently', async () => {
    await cloudwatch.set({ clockAheadMs: -3 * 3_600_000 })
    await expect(store.open(id)).rejects.toMatchObject({
      message: expect.stringContaining('too new'),
      hint: "Correct this machine's clock",
    })
    await cloudwatch.set({ clockAheadMs: 15 * 24 * 3_600_000 })
    await expect(store.open(id)).rejects.toMatchObject({ message: expect.stringContaining('too old') })
  })

  test('a deleted stream fails its writer', async () => {
    const writer = await store.open(id)
    await cloudwatch.client.send(new DeleteLogStreamCommand({ logGroupName: group, logStreamName: id }))
    void writer.write('lost')
    await expect(writer.close()).rejects.toMatchObject({
      retryable: false,
      message: `log of build ${id} cannot be written: it was deleted`,
    })
    await expect(writer.end()).rejects.toThrow(/deleted/)
  })
})

describe('the test double refuses what the service refuses', () => {
  const put = async (logEvents: { timestamp: number; message: string }[]) => {
    const group = await cloudwatch.group()
    const store = cloudwatchLogStore({ group, clientConfig: cloudwatch.clientConfig })
    const id = randomUUID()
    await (await store.open(id)).close()
    await store.close()
    return cloudwatch.client.send(
      new PutLogEventsCommand({ logGroupName: group, logStreamName: id, logEvents }),
    )
  }
  const now = Date.now()
  const fill = (n: number, size: number) =>
    Array.from({ length: n }, () => ({ timestamp: now, message: 'x'.repeat(size) }))

  test.each([
    ['an empty message', [{ timestamp: now, message: '' }], /length greater than or equal to 1/],
    [
      'another order than that of time',
      [
        { timestamp: now, message: 'a' },
        { timestamp: now - 1, message: 'b' },
      ],
      /chronological/,
    ],
    ['an event over 256 KiB with its 26 bytes', fill(1, 256 * 1024 - 25), /event too large/],
    ['a batch over 1 MiB, 26 bytes for each event', fill(8, 131_072 - 25), /Upload too large/],
    ['more than 10,000 events', fill(10_001, 1), /10000/],
    ['no event', [], /1 to 10000/],
  ])('%s', async (_, events, message) => {
    await expect(put(events)).rejects.toThrow(message)
  })

  test('and accepts what is just within the limits', async () => {
    await put(fill(8, 131_072 - 26))
    await put(fill(10_000, 1))
    await put(fill(1, 256 * 1024 - 26))
  })
})
