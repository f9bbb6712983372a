import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:http'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { readEvents } from '../../src/lib/client/connection.ts'
import { IMAGE, sha, startTestServer, type TestServer, until } from '../support/test-server.ts'

const QUIET = '-- still running --\n'

let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
afterEach(() => server[Symbol.asyncDispose]())

interface Open {
  answer: IncomingMessage
  /** Everything that has arrived so far. */
  text(): string
}

/** A request whose response is read as it arrives. */
async function open(path: string, options: { method?: string; body?: string; accept?: string } = {}) {
  const outgoing = request(server.url + path, {
    method: options.method ?? 'GET',
    headers: options.accept ? { accept: options.accept } : {},
  })
  outgoing.end(options.body)
  const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
  const pieces: Buffer[] = []
  answer.on('data', (piece: Buffer) => pieces.push(piece))
  answer.on('error', () => {})
  const opened: Open = { answer, text: () => Buffer.concat(pieces).toString('utf8') }
  return opened
}

const ended = ({ answer }: Open) => until(() => answer.readableEnded || answer.destroyed)

async function events(path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, { headers })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('text/event-stream')
  return parse(answer.body ?? [])
}

async function parse(pieces: AsyncIterable<Uint8Array> | Uint8Array[]) {
  const all: { event: string; data: Record<string, unknown> }[] = []
  const body = Readable.from(pieces)
  for await (const { event, data } of readEvents(body)) all.push({ event, data: JSON.parse(data) })
  return all
}

const logOf = (all: Awaited<ReturnType<typeof events>>) =>
  Buffer.concat(
    all.filter(({ event }) => event === 'log').map(({ data }) => Buffer.from(String(data.bytes), 'base64')),
  )

describe('GET /logs', () => {
  it('streams a log as it grows, until it ends', async () => {
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    expect(log.answer.statusCode).toBe(200)
    expect(log.answer.headers).toMatchObject({
      'content-type': 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'x-accel-buffering': 'no',
      'cache-control': 'no-store, no-transform',
    })
    await server.writeLog(build, '#1 FROM scratch\n')
    await until(() => log.text() === '#1 FROM scratch\n')
    await server.writeLog(build, '#2 COPY\n')
    await until(() => log.text() === '#1 FROM scratch\n#2 COPY\n')
    expect(log.answer.complete).toBe(false)
    await server.succeed(build)
    await server.endLog(build)
    await ended(log)
    expect(log.answer.complete).toBe(true)
    expect(log.text()).toBe('#1 FROM scratch\n#2 COPY\n')
  })

  it('starts at an offset, even in the middle of a character', async () => {
    const build = await server.begin(sha('a'))
    const bytes = Buffer.from('Zürich 🏗\n')
    await server.writeLog(build, bytes)
    await server.succeed(build)
    await server.endLog(build)
    for (let offset = 0; offset <= bytes.length; offset++) {
      const answer = await fetch(`${server.url}/logs/acme/app@${sha('a')}?offset=${offset}`)
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes.subarray(offset))
    }
    expect(await (await fetch(`${server.url}/logs/${build.id}?offset=1000`)).text()).toBe('')
  })

  it('returns the current log when not following', async () => {
    const build = await server.begin(sha('a'))
    const now = async () => (await fetch(`${server.url}/logs/${build.id}?follow=false`)).text()
    expect(await now()).toBe('')
    await server.writeLog(build, 'so far\n')
    expect(await now()).toBe('so far\n')
  })

  it.each(['offset=-1', 'offset=x', 'offset=1&offset=2', 'offset=1e3', 'follow=maybe'])(
    'answers 400 to %s',
    async (query) => {
      const build = await server.begin(sha('a'))
      const answer = await fetch(`${server.url}/logs/${build.id}?${query}`)
      expect(answer.status).toBe(400)
      expect(await answer.json()).toMatchObject({ id: 'invalid' })
    },
  )

  it('sends a heartbeat line during silence, which does not count toward offsets', async () => {
    await server.stop()
    server = await startTestServer({ heartbeatMs: 20 })
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    await until(() => log.text().startsWith(`${QUIET}${QUIET}`))
    await server.writeLog(build, 'one\n', 'two\n')
    await server.succeed(build)
    await server.endLog(build)
    await ended(log)
    expect(log.text().replaceAll(QUIET, '')).toBe('one\ntwo\n')
    const rest = await (await fetch(`${server.url}/logs/${build.id}?offset=4`)).text()
    expect(rest.replaceAll(QUIET, '')).toBe('two\n')
    // If a browser saves it, it is a text file.
    expect(log.text()).not.toContain('\0')
  })

  it('reports that an ended build has no log, when following or not', async () => {
    const build = await server.begin(sha('a'))
    await server.fail(build, 'the worker died three times')
    for (const follow of [true, false]) {
      const text = await (await fetch(`${server.url}/logs/${build.id}?follow=${follow}`)).text()
      expect(text).toBe('This build has no stored log\n')
    }
  })

  it('ends when the build has ended, even if its log never does', async () => {
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'half a line')
    const log = await open(`/logs/${build.id}`)
    await until(() => log.text() === 'half a line')
    await server.fail(build, 'the worker died')
    await ended(log)
    expect(log.answer.complete).toBe(true)
    expect(server.openReaders()).toBe(0)
  })

  it('waits for output written after the build has ended, however long the log was silent', async () => {
    await server[Symbol.asyncDispose]()
    server = await startTestServer({ logGraceMs: 1_800_000, heartbeatMs: 86_400_000 })
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    await server.writeLog(build, 'pushing\n')
    await until(() => log.text() === 'pushing\n')
    const { now } = Date
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + 3_600_000)
    onTestFinished(() => clock.mockRestore())
    await server.succeed(build)
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(log.answer.complete).toBe(false)
    await server.writeLog(build, 'summary\n')
    await server.endLog(build)
    await ended(log)
    expect(log.text()).toBe('pushing\nsummary\n')
  })

  it('reports that the log cannot be read, and still waits for the build', async () => {
    const dispose = server
    await using _ = dispose
    const logs = {
      ...server.logs,
      // biome-ignore lint/correctness/useYield: it fails first
      async *read(): AsyncGenerator<Uint8Array> {
        throw new Error('EIO on /var/lib/conveyor')
      },
    }
    server = await startTestServer({ logs })
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    await until(() => log.text() !== '')
    expect(log.text()).toBe('The log of this build is currently unavailable\n')
    expect(log.answer.complete).toBe(false)
    await server.succeed(build)
    await ended(log)
    expect(log.answer.complete).toBe(true)
    expect(server.lines.join()).toContain('EIO')
  })

  it('stops reading the log when the client disconnects', async () => {
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    await server.writeLog(build, 'x')
    await until(() => log.text() === 'x')
    expect(server.openReaders()).toBe(1)
    log.answer.destroy()
    await until(() => server.openReaders() === 0)
  })

  it('reads no faster than a slow client, without losing data', async () => {
    const build = await server.begin(sha('a'))
    const line = `${'x'.repeat(1023)}\n`
    const block = line.repeat(1024)
    for (let n = 0; n < 32; n++) await server.writeLog(build, block)
    await server.succeed(build)
    await server.endLog(build)

    const outgoing = request(`${server.url}/logs/${build.id}`)
    outgoing.end()
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    answer.pause()
    // 32 MiB do not fit into the sockets' buffers, so the server has to keep its reader.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(server.openReaders()).toBe(1)
    let size = 0
    for await (const piece of answer) size += (piece as Buffer).length
    expect(size).toBe(32 * 1024 * 1024)
    await until(() => server.openReaders() === 0)
  })

  it('asks the store as often for a hundred readers as for a few', async () => {
    const build = await server.begin(sha('a'))
    const asked = vi.spyOn(server.store, 'get')
    const gone = new AbortController()
    const readers = Array.from({ length: 100 }, () =>
      fetch(`${server.url}/builds/${build.id}/events`, { signal: gone.signal }),
    )
    await Promise.all(readers)
    asked.mockClear()
    await new Promise((resolve) => setTimeout(resolve, 2000))
    expect(asked.mock.calls.length).toBeLessThan(20)
    gone.abort()
    await until(() => server.openReaders() === 0)
  })

  it('is cut, not ended, when the server closes', async () => {
    const build = await server.begin(sha('a'))
    const log = await open(`/logs/${build.id}`)
    await server.writeLog(build, 'x')
    await until(() => log.text() === 'x')
    await server.stop()
    expect(server.openReaders()).toBe(0)
    await ended(log)
    expect(log.answer.complete).toBe(false)
  })
})

describe('GET /builds/{id}/events', () => {
  it('sends states, log and end', async () => {
    const { build: pending } = await server.store.accept({
      repository: 'acme/app',
      sha: sha('a'),
      ref: null,
      defaultBranch: null,
      cache: true,
      source: { kind: 'api' },
    })
    const stream = await open(`/builds/acme/app@${sha('a')}/events`)
    await until(() => stream.text().includes('"state":"pending"'))
    const build = await server.begin(sha('a'))
    expect(build.id).toBe(pending.id)
    // This shows without a single byte of the log.
    await until(() => stream.text().includes('"state":"building"'))
    await server.writeLog(build, 'Zürich\n')
    await server.succeed(build)
    await server.endLog(build)
    await ended(stream)
    const all = await parse([Buffer.from(stream.text())])
    expect(all.filter(({ event }) => event === 'build').map(({ data }) => [data.state, data.image])).toEqual([
      ['pending', null],
      ['building', null],
      ['succeeded', IMAGE],
    ])
    expect(logOf(all).toString()).toBe('Zürich\n')
    expect(all.at(-1)).toEqual({
      event: 'end',
      data: { state: 'succeeded', image: IMAGE, error: null, error_kind: null },
    })
  })

  it('resumes at any offset or Last-Event-ID, which is the offset after the piece', async () => {
    const build = await server.begin(sha('a'))
    const bytes = Buffer.from('é🏗\n')
    await server.writeLog(build, bytes)
    await server.fail(build, 'exit code: 1')
    await server.endLog(build)
    for (let offset = 0; offset <= bytes.length; offset++) {
      const byQuery = await events(`/builds/${build.id}/events?offset=${offset}`)
      const byHeader = await events(`/builds/${build.id}/events?offset=0`, { 'last-event-id': `${offset}` })
      expect(logOf(byQuery)).toEqual(bytes.subarray(offset))
      expect(byHeader).toEqual(byQuery)
      expect(byQuery.at(-1)?.data).toMatchObject({ state: 'failed', error: 'exit code: 1' })
    }
    const raw = await (await fetch(`${server.url}/builds/${build.id}/events?offset=2`)).text()
    expect(raw).toContain(`id: ${bytes.length}\nevent: log\ndata: {"offset":2,`)
    const bad = await fetch(`${server.url}/builds/${build.id}/events`, { headers: { 'last-event-id': 'x' } })
    expect(bad.status).toBe(400)
  })

  it('sends comments as heartbeats', async () => {
    await server.stop()
    server = await startTestServer({ heartbeatMs: 20 })
    const build = await server.begin(sha('a'))
    const stream = await open(`/builds/${build.id}/events`)
    await until(() => stream.text().includes('\n\n: nothing new\n\n'))
    stream.answer.destroy()
  })
})

describe('POST /builds, streaming', () => {
  const body = JSON.stringify({ Repository: 'acme/app', Sha: sha('a') })

  it.each([
    ['with a last line break', 'done\n', 'done\n'],
    ['without one', 'done', 'done\n'],
  ])('ends the log %s with the image', async (_name, log, shown) => {
    const stream = await open('/builds', { method: 'POST', body })
    expect(stream.answer.statusCode).toBe(200)
    expect(stream.answer.headers['content-type']).toBe('text/plain; charset=utf-8')
    const build = await server.begin(sha('a'))
    expect(stream.answer.headers.location).toBe(`${server.url}/builds/${build.id}`)
    await server.writeLog(build, log)
    await until(() => stream.text() === log)
    await server.succeed(build)
    await server.endLog(build)
    await ended(stream)
    expect(stream.text()).toBe(`${shown}${IMAGE}\n`)
  })

  it('ends with the error on one line, uninterrupted by heartbeats', async () => {
    await server.stop()
    server = await startTestServer({ heartbeatMs: 20 })
    const stream = await open('/builds', { method: 'POST', body, accept: '*/*' })
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'boom\n')
    await until(() => stream.text().endsWith(QUIET))
    await server.fail(build, 'RUN make failed:\n  exit code 2')
    await server.endLog(build)
    await ended(stream)
    expect(stream.text().split('\n').slice(-2)).toEqual(['error: RUN make failed: exit code 2', ''])
  })

  it('streams the whole log of a build it joins, and only the image of an old one', async () => {
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'from the start\n')
    const joined = await open('/builds', { method: 'POST', body })
    await until(() => joined.text() === 'from the start\n')
    await server.succeed(build)
    await server.endLog(build)
    await ended(joined)
    expect(joined.text()).toBe(`from the start\n${IMAGE}\n`)
    const old = await open('/builds', { method: 'POST', body })
    await ended(old)
    // No push announced it, and there is no git server to ask where it belongs.
    expect(old.text()).toMatch(/^tag latest is not moved: no push announced it, [^\n]+\n[^\n]+\n$/)
    expect(old.text().split('\n').at(-2)).toBe(IMAGE)
  })

  it.each([
    ['text/event-stream', 'text/event-stream'],
    ['application/json', 'application/json; charset=utf-8'],
    ['text/plain', 'text/plain; charset=utf-8'],
    ['text/html, */*;q=0.1', 'text/plain; charset=utf-8'],
    ['application/json;q=0.5, text/event-stream;q=0.9', 'text/event-stream'],
    ['application/json;q=0, image/png', 'text/plain; charset=utf-8'],
  ])('answers Accept: %s with %s', async (accept, type) => {
    await server.succeed(await server.begin(sha('a')))
    const stream = await open('/builds', { method: 'POST', body, accept })
    expect(stream.answer.headers['content-type']).toBe(type)
    await ended(stream)
    if (type === 'text/event-stream') {
      expect(stream.text()).toMatch(/^event: build\ndata: .*\n\nevent: end\ndata: .*\n\n$/)
    }
  })
})
