import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Build } from '../../../src/lib/core/build.ts'
import { MAX_ROW } from '../../../src/lib/core/build-log/rows.ts'
import type { LogStore } from '../../../src/lib/logs/log-store.ts'
import { textHtml } from '../../../src/lib/server/logs/line-html.ts'
import { LineIndex } from '../../../src/lib/server/logs/line-index.ts'
import { searchLog } from '../../../src/lib/server/logs/search.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'
import { longestTurn } from '../../support/timing/longest-turn.ts'

/** A log that comes in pieces of this size. */
function logOf(text: string | Uint8Array, pieceSize = 64 * 1024): Pick<LogStore, 'read'> & LogStore {
  const bytes = Buffer.from(text)
  return {
    async *read(_id, { offset = 0, signal } = {}) {
      for (let at = offset; at < bytes.length && !signal?.aborted; at += pieceSize) {
        yield bytes.subarray(at, at + pieceSize)
      }
    },
    open: () => Promise.reject(new Error('read only')),
    close: async () => {},
  }
}

const find = (
  logs: LogStore,
  text: string,
  more: { caseSensitive?: boolean; firstRow?: number; limit?: number } = {},
) =>
  searchLog(logs, 'b', {
    ...{ text, caseSensitive: false, from: { row: 1, offset: 0 }, firstRow: 1, limit: 1000 },
    signal: new AbortController().signal,
    ...more,
  })

describe('the index of a log', () => {
  it('finds a place at or shortly before every row, however the log came', async () => {
    const lines = Array.from(
      { length: 5000 },
      (_, i) => `#2 ${(i / 1000).toFixed(3)} line ${i} ${'x'.repeat(i % 97)}`,
    )
    lines[700] = 'y'.repeat(100_000)
    const text = `${lines.join('\n')}\n`
    for (const size of [64 * 1024, 777]) {
      const index = new LineIndex(logOf(text, size), 'b')
      await index.update()
      expect(index.size).toBe(text.length)
      expect(index.rows).toBe(5003) // the long line is four rows
      for (const row of [1, 64, 65, 700, 701, 900, 5003]) {
        const place = index.place(row)
        expect(row - place.row).toBeLessThan(64)
        expect(place.row).toBeLessThanOrEqual(row)
        const start = text.slice(place.offset, place.offset + 30)
        const number = place.row <= 701 ? place.row - 1 : place.row - 4
        expect(start).toBe(`${lines[number]}\n${lines[number + 1]}`.slice(0, 30))
      }
    }
  })
})

describe('a log with more steps than any Dockerfile has', () => {
  const steps = Array.from({ length: 6000 }, (_, i) => `\n#${i + 1} ${'step '.repeat(400)}${i}\n`).join('')

  it('takes little memory: 64 logs are known at a time', async () => {
    const index = new LineIndex(logOf(steps), 'b')
    await index.update()
    expect(JSON.stringify(index.steps).length).toBeLessThan(1024 * 1024)
  })

  it('sends each reader a step again only when it changed', async () => {
    await using server = await startTestServer()
    const build = await server.begin(sha('d'))
    await server.writeLog(build, steps, '#7 0.100 x\n'.repeat(200_000))
    await server.fail(build, 'too many steps')
    await server.endLog(build)
    const cpu = process.cpuUsage()
    const answer = await fetch(`${server.url}/logs/${build.id}/lines`, {
      headers: { accept: 'text/event-stream' },
    })
    const sent = await answer.text()
    const { user } = process.cpuUsage(cpu)
    // Twice for each step, as all were running when the build ended; and for #7 once in each event.
    expect(sent.match(/"key":"\d+"/g)?.length).toBeLessThan(
      2 * 2000 + 2 * (sent.match(/event: rows/g)?.length ?? 0),
    )
    expect(user / 1000).toBeLessThan(10_000)
  })
})

describe('the search in a log', () => {
  it('finds what a simple search finds, wherever the log is cut', async () => {
    const lines = Array.from({ length: 3000 }, (_, i) => (i % 7 === 0 ? `An Error in ${i}` : `line ${i}`))
    const text = lines.join('\n')
    const expected = lines.flatMap((line, i) => (line.toLowerCase().includes('error in 1') ? [i + 1] : []))
    for (const size of [64 * 1024, 1000, 13]) {
      expect(await find(logOf(text, size), 'error in 1')).toEqual({ rows: expected, total: expected.length })
      expect(await find(logOf(text, size), 'error in 1', { caseSensitive: true })).toEqual({
        rows: [],
        total: 0,
      })
      expect((await find(logOf(text, size), 'Error', { limit: 3 })).rows).toEqual([1, 8, 15])
      expect((await find(logOf(text, size), 'Error', { limit: 3, firstRow: 9 })).rows).toEqual([15, 22, 29])
    }
  })

  it('counts a line once, and finds text anywhere in a long one', async () => {
    expect(await find(logOf('aaaa aaaa\nb\naa\n'), 'aa')).toEqual({ rows: [1, 3], total: 2 })
    const long = `first\n${'x'.repeat(600_000)}needle${'x'.repeat(1000)}\nneedle\n`
    const { rows, total } = await find(logOf(long), 'needle')
    expect(total).toBe(2)
    expect(rows).toEqual([1 + Math.ceil(600_001 / (32 * 1024)), 1 + Math.ceil(601_006 / (32 * 1024)) + 1])
  })

  it('counts every row of a long line with hits in it, and takes no longer for many hits', async () => {
    const line = `${'x'.repeat(30_000)}ab${'y'.repeat(4000)}ab\n`
    expect(await find(logOf(`${line}ab\n`), 'ab')).toEqual({ rows: [1, 2, 3], total: 3 })
    expect(await find(logOf(`${'x'.repeat(MAX_ROW)}ab\nab\n`), 'ab')).toEqual({ rows: [2, 3], total: 2 })

    const turn = longestTurn()
    const { total } = await find(logOf('a'.repeat(4 * 1024 * 1024)), 'a')
    expect(turn.ms()).toBeLessThan(250)
    expect(total).toBe(128)
  })

  it('is fast in 100 MB, lets others work, and stops when it is aborted', async () => {
    const block = Buffer.from(
      Array.from(
        { length: 800 },
        (_, i) => `#2 ${i}.000 compiling module number ${i} with its warnings\n`,
      ).join(''),
    )
    const count = Math.ceil(100e6 / block.length)
    const logs: LogStore = {
      async *read(_id, { signal } = {}) {
        for (let i = 0; i < count && !signal?.aborted; i++) {
          for (let at = 0; at < block.length; at += 65_536) yield block.subarray(at, at + 65_536)
        }
        yield Buffer.from('the needle\n')
      },
      open: () => Promise.reject(new Error('read only')),
      close: async () => {},
    }
    const turn = longestTurn()
    const before = process.cpuUsage()
    const started = performance.now()
    const { total, rows } = await find(logs, 'the NEEDLE')
    const took = performance.now() - started
    const { user, system } = process.cpuUsage(before)
    const blocked = turn.ms()
    process.stdout.write(
      `search of 100 MB: ${took.toFixed(0)} ms, ${((user + system) / 1000).toFixed(0)} ms of processor time, at most ${blocked.toFixed(0)} ms at once\n`,
    )
    expect({ total, rows }).toEqual({ total: 1, rows: [count * 800 + 1] })
    // In one turn, the whole search takes twice as long.
    expect(blocked).toBeLessThan(120)
    expect((user + system) / 1000).toBeLessThan(10_000)

    const gone = new AbortController()
    const search = searchLog(logs, 'b', {
      ...{ text: 'x', caseSensitive: true, from: { row: 1, offset: 0 }, firstRow: 1, limit: 1 },
      signal: gone.signal,
    })
    gone.abort(new Error('gone'))
    await expect(search).rejects.toThrow('gone')
  })
})

describe('text as HTML', () => {
  it.each([
    ['<script>alert(1)</script>', '&lt;script&gt;alert(1)&lt;/script&gt;'],
    [
      'see (https://a.example/b_(c)).',
      'see (<a href="https://a.example/b_(c)" rel="noopener noreferrer nofollow">https://a.example/b_(c)</a>).',
    ],
    [
      'https://a.example/?q="><b>',
      '<a href="https://a.example/?q=" rel="noopener noreferrer nofollow">https://a.example/?q=</a>&quot;&gt;&lt;b&gt;',
    ],
    ['javascript://x', 'javascript://x'],
    ['\x1b[31mred\x1b[0m', '<span class="f1">red</span>'],
    ['a\u202eb', 'a&lt;U+202E&gt;b'],
  ])('%j', (text, markup) => {
    expect(textHtml(text)).toBe(markup)
  })
})

describe('GET /logs/ID/lines and /search', () => {
  let server: TestServer
  let build: Build
  beforeAll(async () => {
    server = await startTestServer()
    build = await server.begin(sha('a'))
    await server.writeLog(
      build,
      'building\n\n#1 [1/1] RUN x\n',
      '#1 0.100 \x1b[31mone\x1b[0m\n#1 0.200 10%\r100%\n',
      '#1 DONE 0.3s\nlast',
    )
  })
  afterAll(() => server[Symbol.asyncDispose]())
  const get = async (path: string) => {
    const answer = await fetch(`${server.url}/logs/${build.id}${path}`, {
      headers: { accept: 'application/json' },
    })
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
  }

  it('have the lines as data, with the text that a terminal shows', async () => {
    expect((await get('/lines?from=4&to=6')).body).toEqual({
      ...{ from: 4, next: 7, total: 6, ended: false },
      lines: [
        { number: 4, step: '1', seconds: 0.1, text: 'one' },
        { number: 5, step: '1', seconds: 0.2, text: '100%' },
        { number: 6, step: '1', seconds: null, text: 'DONE 0.3s' },
      ],
    })
    expect((await get('/lines?from=100')).body).toMatchObject({ from: 100, next: 100, total: 6, lines: [] })
  })

  it('find lines by text', async () => {
    expect((await get('/search?q=done')).body).toEqual({ q: 'done', from: 1, total: 1, lines: [6] })
    expect((await get('/search?q=done&case=true')).body).toMatchObject({ total: 0 })
  })

  it.each([
    '/lines?from=0',
    '/lines?from=x',
    '/lines?from=5&to=4',
    '/search',
    '/search?q=',
    '/search?q=a%0Ab',
    `/search?q=${'x'.repeat(501)}`,
  ])('answer 400 to %s', async (path) => {
    expect(await get(path)).toMatchObject({ status: 400, body: { id: 'invalid' } })
  })

  it('have the last line without a newline once the build has ended; raw and download are exact', async () => {
    await server.succeed(build)
    await server.endLog(build)
    expect((await get('/lines?from=7')).body).toMatchObject({
      total: 7,
      lines: [{ number: 7, text: 'last' }],
    })
    for (const query of ['', '?download', '?follow=false&download=true']) {
      const answer = await fetch(`${server.url}/logs/${build.id}${query}`)
      expect(await answer.text()).toContain('\x1b[31mone\x1b[0m\n#1 0.200 10%\r100%\n')
      expect(answer.headers.get('content-disposition') ?? '').toBe(
        query === '' ? '' : `attachment; filename="acme-app@aaaaaaa-${build.id.slice(0, 8)}.log"`,
      )
    }
  })
})
