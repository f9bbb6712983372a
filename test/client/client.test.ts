import type { RequestListener } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type FollowOptions, followBuild, parseTarget, requestOnly } from '../../src/lib/client/client.ts'
import { cuttingProxy, stranger } from '../support/network/bad-networks.ts'
import { IMAGE, sha, startTestServer, type TestServer, until } from '../support/test-server.ts'

describe('parseTarget', () => {
  it.each([
    [`acme/app:${sha('a')}`, { repository: 'acme/app', sha: sha('a') }],
    [`acme/app@${sha('A')}`, { repository: 'acme/app', sha: sha('a') }],
    [`acme/app:${'b'.repeat(64)}`, { repository: 'acme/app', sha: 'b'.repeat(64) }],
    ['acme/app.js:main', { repository: 'acme/app.js', branch: 'main' }],
    ['acme/app:feature/x@2', { repository: 'acme/app', branch: 'feature/x@2' }],
    ['acme/app:-x', { repository: 'acme/app', branch: '-x' }],
    ['acme/app:@', { repository: 'acme/app', branch: '@' }],
    ['acme/app:abc1234', { repository: 'acme/app', branch: 'abc1234' }],
  ])('%s', (text, target) => {
    expect(parseTarget(text)).toEqual(target)
  })

  it.each([
    ['acme/app', /is not a valid build target/],
    ['acme/app:', /is not a valid build target/],
    ['', /is not a valid build target/],
    [':main', /is not a valid build target/],
    ['acme:main', /owner\/name/],
    ['acme/app@main', /not a full commit id/],
    ['acme/app:a b', /not a valid branch/],
  ])('refuses %j', (text, reason) => {
    expect(() => parseTarget(text)).toThrow(
      expect.objectContaining({ kind: 'invalid', message: expect.stringMatching(reason) }),
    )
  })
})

describe('a client', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer()
  })
  afterEach(() => server[Symbol.asyncDispose]())

  const order = { repository: 'acme/app', sha: sha('a') }

  /** Follows a build, and records what is reported. */
  function follow(options: Partial<FollowOptions> = {}) {
    const pieces: Uint8Array[] = []
    const states: string[] = []
    const notices: string[] = []
    const outcome = followBuild({
      url: server.url,
      request: order,
      onLog: (bytes) => {
        pieces.push(bytes)
      },
      onState: (build) => states.push(build.state),
      onNotice: (line) => notices.push(line),
      ...options,
    })
    // If a test fails before it awaits the outcome, its own failure is reported.
    outcome.catch(() => {})
    return { outcome, log: () => Buffer.concat(pieces), states, notices }
  }

  it('follows a build from the request to its image', async () => {
    const following = follow()
    await until(() => server.openReaders() === 1)
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'Zürich\n', Buffer.from([0xff, 0x00, 0x0a]))
    await server.succeed(build)
    await server.endLog(build)
    expect(await following.outcome).toMatchObject({
      state: 'succeeded',
      image: IMAGE,
      error: null,
      build: { id: build.id, repository: 'acme/app', state: 'succeeded', image: IMAGE },
    })
    expect(following.log()).toEqual(Buffer.from([...Buffer.from('Zürich\n'), 0xff, 0x00, 0x0a]))
    // Between them, a slow machine may see it building, too.
    expect(following.states.filter((state) => state !== 'building')).toEqual(['pending', 'succeeded'])
    expect(following.notices).toEqual([])
  })

  it('reports how a build failed', async () => {
    const build = await server.begin(sha('a'))
    const { outcome } = follow()
    await until(() => server.openReaders() === 1)
    await server.writeLog(build, 'boom\n')
    await server.fail(build, 'RUN make failed: exit code 2')
    await server.endLog(build)
    expect(await outcome).toMatchObject({
      state: 'failed',
      image: null,
      error: 'RUN make failed: exit code 2',
      error_kind: 'build_failed',
    })
  })

  it('resolves a branch, disables the cache, and can detach', async () => {
    server.github.setHead('acme/app', 'main', sha('c'))
    const request = { repository: 'acme/app', branch: 'main', cache: false }
    const build = await requestOnly({ url: `${server.url}/`, request })
    expect(build).toMatchObject({ sha: sha('c'), branch: 'main', state: 'pending' })
    expect((await server.store.get(build.id))?.cache).toBe(false)
    await expect(
      requestOnly({ url: server.url, request: { ...request, branch: 'nope' } }),
    ).rejects.toMatchObject({
      kind: 'not_found',
      message: expect.stringContaining('nope'),
    })
  })

  it('resumes when the server is killed and restarted', async () => {
    const build = await server.begin(sha('a'))
    const following = follow()
    await server.writeLog(build, 'before é')
    await until(() => following.log().toString() === 'before é')
    await server.stop()
    await until(() => following.notices.length > 0)
    await server.writeLog(build, ', during')
    await server.start()
    await until(() => following.log().toString() === 'before é, during')
    await server.writeLog(build, ', after')
    await server.succeed(build)
    await server.endLog(build)
    expect((await following.outcome).image).toBe(IMAGE)
    expect(following.log().toString()).toBe('before é, during, after')
    expect(following.notices).toEqual([
      expect.stringMatching(/^lost the connection to http:.* \(.*\); reconnecting$/),
    ])
  })

  it('passes on every byte once, wherever its connections break', async () => {
    const build = await server.begin(sha('a'))
    // The first cut is inside the headers, before even the build's id is known; then cuts come anywhere, later and
    // later in the long run so that the test ends.
    await using proxy = await cuttingProxy(
      () => server.url,
      (connection) => (connection === 1 ? 100 : 1200 + ((connection * 397) % 1500) + connection * 300),
    )
    const following = follow({ url: proxy.url })
    const lines: string[] = []
    while (proxy.connections() < 6) {
      const line = `#${lines.length} ${'é🏗'.repeat(lines.length % 20)}\n`
      lines.push(line)
      await server.writeLog(build, line)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await server.writeLog(build, 'the end\n')
    await server.succeed(build)
    await server.endLog(build)
    expect((await following.outcome).image).toBe(IMAGE)
    expect(following.log().toString()).toBe(`${lines.join('')}the end\n`)
    expect(await server.store.unfinished()).toEqual([])
  })

  it('counts a connection without any heartbeat as lost', async () => {
    const build = await server.begin(sha('a'))
    const following = follow({ silenceMs: 300 })
    await until(() => following.notices.length >= 2)
    await server.writeLog(build, 'at last\n')
    await server.succeed(build)
    await server.endLog(build)
    expect((await following.outcome).state).toBe('succeeded')
    expect(following.log().toString()).toBe('at last\n')
  })

  it('returns the image of an earlier build at once, without its log', async () => {
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'long ago\n')
    await server.succeed(build)
    await server.endLog(build)
    const following = follow()
    expect(await following.outcome).toMatchObject({ image: IMAGE, build: { id: build.id } })
    expect(following.log().toString()).toBe('')
  })

  it('waits for a slow consumer of the log', async () => {
    const build = await server.begin(sha('a'))
    await server.writeLog(build, Buffer.alloc(4 * 1024 * 1024, 0x61))
    let taking = 0
    let most = 0
    let size = 0
    const { outcome } = follow({
      onLog: async (bytes) => {
        most = Math.max(most, ++taking)
        await new Promise((resolve) => setTimeout(resolve, 1))
        size += bytes.length
        taking--
      },
    })
    await until(() => size === 4 * 1024 * 1024)
    await server.succeed(build)
    await server.endLog(build)
    await outcome
    expect(most).toBe(1)
  })

  it('passes on errors of its consumer, and leaves no reader behind', async () => {
    const build = await server.begin(sha('a'))
    await server.writeLog(build, 'x')
    const broken = follow({
      onLog: () => {
        throw new Error('EPIPE')
      },
    })
    await expect(broken.outcome).rejects.toThrow('EPIPE')
    await until(() => server.openReaders() === 0)
  })

  it('stops when aborted, connected or not; the build continues', async () => {
    const build = await server.begin(sha('a'))
    const stop = new AbortController()
    const connected = follow({ signal: stop.signal })
    await until(() => server.openReaders() === 1)
    stop.abort()
    await expect(connected.outcome).rejects.toMatchObject({ kind: 'cancelled' })
    await until(() => server.openReaders() === 0)
    expect((await server.store.get(build.id))?.state).toBe('building')

    const later = new AbortController()
    const lost = follow({ signal: later.signal })
    await until(() => server.openReaders() === 1)
    await server.stop()
    await until(() => lost.notices.length > 0)
    later.abort()
    await expect(lost.outcome).rejects.toMatchObject({ kind: 'cancelled' })
    await expect(follow({ signal: later.signal }).outcome).rejects.toMatchObject({ kind: 'cancelled' })
  })

  it('reports at once that there is no server, and where it looked', async () => {
    await server.stop()
    const url = server.url.replace('http://', 'http://me:hunter2@')
    for (const outcome of [follow({ url }).outcome, requestOnly({ url, request: order })]) {
      await expect(outcome).rejects.toMatchObject({
        kind: 'unavailable',
        message: expect.stringMatching(
          /^cannot connect to the Conveyor server at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/,
        ),
        hint: expect.stringContaining('CONVEYOR_URL'),
      })
    }
  })

  it('gives up on a server that stays away', async () => {
    await server.begin(sha('a'))
    const { outcome } = follow({ patienceMs: 300 })
    await until(() => server.openReaders() === 1)
    await server.stop()
    await expect(outcome).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/^lost the connection to the Conveyor server at /),
    })
  })

  it('sends its username and password, and reports when they are wrong', async () => {
    await using locked = await startTestServer({ auth: { username: 'me', password: 'p:ä/ss' } })
    const auth = { username: 'me', password: 'p:ä/ss' }
    expect(await requestOnly({ url: locked.url, request: order, auth })).toMatchObject({ state: 'pending' })
    const inside = locked.url.replace('http://', 'http://me:p%3A%C3%A4%2Fss@')
    expect(await requestOnly({ url: inside, request: order })).toMatchObject({ state: 'pending' })
    for (const wrong of [null, { ...auth, password: 'x' }]) {
      await expect(follow({ url: locked.url, auth: wrong }).outcome).rejects.toMatchObject({
        kind: 'unauthorized',
        hint: expect.stringMatching(/login or token/),
      })
    }
  })

  it('passes on the error of a server that refuses', async () => {
    server.github.failAlways(500)
    const request = { repository: 'acme/app', branch: 'main' }
    await expect(follow({ request }).outcome).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/./),
    })
    await expect(requestOnly({ url: server.url, request: { ...order, sha: 'abc' } })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(/not a full commit id/),
      hint: expect.stringMatching(/40 hexadecimal/),
    })
  })

  it.each([
    [
      'a web site',
      (_: unknown, res) => res.end('<h1>Hello</h1>'),
      /answered HTTP 200; is this a Conveyor server/,
    ],
    ['a missing page', (_: unknown, res) => res.writeHead(404).end('no'), /answered HTTP 404; is this/],
    [
      'a redirect',
      (_: unknown, res) => res.writeHead(301, { location: 'https://ci.example' }).end(),
      /HTTP 301 with a redirect to https:\/\/ci\.example/,
    ],
    ['a proxy without a server', (_: unknown, res) => res.writeHead(502).end(), /answered HTTP 502/],
  ] satisfies [string, RequestListener, RegExp][])('recognises %s', async (_name, answer, message) => {
    await using other = await stranger(answer)
    await expect(follow({ url: other.url }).outcome).rejects.toMatchObject({
      message: expect.stringMatching(message),
      hint: expect.stringContaining('CONVEYOR_URL'),
    })
  })

  it('outlasts a proxy that answers 502 while the server restarts', async () => {
    const build = await server.begin(sha('a'))
    let requests = 0
    await using proxy = await stranger((incoming, outgoing) => {
      if (++requests === 2) {
        outgoing.writeHead(502).end('<html>Bad Gateway</html>')
        return
      }
      fetch(server.url + incoming.url, {
        method: incoming.method ?? 'GET',
        headers: { accept: 'text/event-stream' },
        ...(incoming.method === 'POST' && { body: JSON.stringify(order) }),
      }).then(async (answer) => {
        outgoing.writeHead(answer.status, { 'content-type': 'text/event-stream' })
        const reader = answer.body?.getReader()
        const first = await reader?.read()
        outgoing.write(first?.value)
        if (requests === 1) {
          outgoing.end()
          await reader?.cancel()
          return
        }
        for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
          outgoing.write(piece.value)
        }
        outgoing.end()
      })
    })
    const following = follow({ url: proxy.url })
    await until(() => requests === 3)
    await server.writeLog(build, 'through\n')
    await server.succeed(build)
    await server.endLog(build)
    expect((await following.outcome).image).toBe(IMAGE)
    expect(following.log().toString()).toBe('through\n')
  })

  it.each(['localhost:8080', 'ftp://host', '', 'http://'])('refuses %j as a URL', async (url) => {
    await expect(follow({ url }).outcome).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(/http:\/\/host/),
    })
  })
})
