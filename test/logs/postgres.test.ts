import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Postgres } from '../../src/lib/db/postgres.ts'
import type { LogStore, ReadLogOptions } from '../../src/lib/logs/log-store.ts'
import { postgresLogStore } from '../../src/lib/logs/postgres/log-store.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { projectRoot } from '../support/processes.ts'
import { logStoreContract } from './log-store.contract.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres[Symbol.asyncDispose]())

logStoreContract('postgresLogStore', async () => {
  const url = await postgres.database()
  return {
    open: () => postgresLogStore({ url }),
    script: `import { postgresLogStore } from ${JSON.stringify(`${projectRoot}src/lib/logs/postgres/log-store.ts`)}
      const store = await postgresLogStore({ url: ${JSON.stringify(url)} })`,
    dispose: async () => {},
  }
})

describe('postgresLogStore', () => {
  let database: Postgres
  let url: string
  let store: LogStore
  let id: string
  beforeEach(async () => {
    url = await postgres.database()
    database = new Postgres({ url })
    store = await postgresLogStore({ url })
    id = randomUUID()
  })
  afterEach(async () => {
    await store.close()
    await database.close()
  })

  async function read(from = store, options: ReadLogOptions = { follow: false }): Promise<Buffer> {
    const pieces: Uint8Array[] = []
    for await (const piece of from.read(id, options)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  const chunks = async () => {
    const [row] = await database.query<{ n: number }>('select count(*)::int as n from build_log_chunks')
    return row?.n ?? 0
  }

  test('many short lines need few rows', async () => {
    const writer = await store.open(id)
    const began = performance.now()
    for (let i = 0; i < 2_000; i++) await writer.write(`line ${i}\n`)
    await writer.end()
    const flushes = Math.ceil((performance.now() - began) / 250)
    expect(await chunks()).toBeLessThanOrEqual(flushes + 2)
    expect(String(await read()).split('\n')).toHaveLength(2_001)
  })

  test('reads any range of chunks of any size', async () => {
    const written = randomBytes(300_000)
    const sizes = [1, 70_000, 3, 65_536, 65_537, 5, 40_000]
    let at = 0
    for (const size of sizes) {
      const writer = await store.open(id)
      await writer.write(written.subarray(at, at + size))
      await writer.close()
      at += size
    }
    const writer = await store.open(id)
    await writer.write(written.subarray(at))
    await writer.end()
    expect(await chunks()).toBe(10)
    for (const offset of [0, 1, 2, 65_535, 65_536, 70_001, 70_004, 135_540, 299_999, 300_000]) {
      expect((await read(store, { offset })).equals(written.subarray(offset)), `from ${offset}`).toBe(true)
    }
  })

  test('two concurrent writers of one log interleave by chunks, and nothing is lost', async () => {
    const other = await postgresLogStore({ url })
    const [one, two] = [await store.open(id), await other.open(id)]
    const line = (name: string, i: number) => `${name} ${i} ${'x'.repeat(200)}\n`
    await Promise.all(
      [one, two].map(async (writer, w) => {
        for (let i = 0; i < 3_000; i++) await writer.write(line(`writer${w}`, i))
        await writer.end()
      }),
    )
    const text = String(await read())
    const size = [0, 1]
      .flatMap((w) => Array.from({ length: 3_000 }, (_, i) => line(`writer${w}`, i)))
      .join('').length
    expect(text.length).toBe(size)
    await other.close()
  })

  test('many readers of many logs need few queries', async () => {
    const counted = new Postgres({ url })
    const shared = await postgresLogStore({ postgres: counted })
    const stop = new AbortController()
    const ids = Array.from({ length: 20 }, () => randomUUID())
    const readers = ids.flatMap((buildId) =>
      Array.from({ length: 10 }, async () => {
        let text = ''
        for await (const piece of shared.read(buildId, { signal: stop.signal })) text += Buffer.from(piece)
        return text
      }),
    )
    const other = await postgresLogStore({ url })
    const writers = await Promise.all(ids.map((buildId) => other.open(buildId)))
    await expect.poll(() => counted.pool.waitingCount).toBe(0)
    let queries = 0
    counted.pool.on('acquire', () => {
      queries += 1
    })
    const began = performance.now()
    await sleep(2_000)
    const polls = (performance.now() - began) / 200
    expect(queries).toBeLessThanOrEqual(polls + 2)

    await Promise.all(writers.map((writer, i) => writer.write(`log ${i}\n`)))
    await Promise.all(writers.map((writer) => writer.end()))
    const texts = await Promise.all(readers)
    expect(texts).toEqual(ids.flatMap((_, i) => Array.from({ length: 10 }, () => `log ${i}\n`)))
    await other.close()
    await shared.close()
    await counted.close()
  })

  test('a server restart in the middle of a log: its writer continues, and no byte is lost or duplicated', async () => {
    const writer = await store.open(id)
    const hash = createHash('sha256')
    let stop = false
    let size = 0
    const writing = (async () => {
      for (let i = 0; !stop; i++) {
        const line = `${i} ${randomBytes(500).toString('hex')}\n`
        hash.update(line)
        size += line.length
        await writer.write(line)
        if (i % 10 === 0) await sleep(1)
      }
    })()
    for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
      await sleep(500)
      await postgres.stop(signal)
      await expect(read()).rejects.toMatchObject({
        kind: 'unavailable',
        retryable: true,
        message: expect.stringContaining(id),
      })
      await sleep(300)
      await postgres.start()
    }
    await sleep(500)
    stop = true
    await writing
    await writer.end()
    const bytes = await read(store, {})
    expect(bytes.length).toBe(size)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(hash.digest('hex'))
  })

  test('a deleted log fails its writer, and a closed store gives up at once', async () => {
    const writer = await store.open(id)
    await writer.write('x')
    await expect.poll(chunks).toBe(1)
    await database.query('delete from build_log_chunks')
    await database.query('delete from build_logs')
    void writer.write('lost')
    await expect(writer.close()).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: false,
      message: expect.stringContaining(`log of build ${id} cannot be written: it was deleted`),
    })

    const other = await postgresLogStore({ url })
    const late = await other.open(id)
    await postgres.stop()
    void late.write('lost')
    await expect(other.close()).rejects.toMatchObject({ name: 'ConveyorError', kind: 'unavailable' })
    await postgres.start()
  })
})
