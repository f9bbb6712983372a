import { connect } from 'node:net'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  type NewAccessToken,
  newTokenText,
  type Scope,
  tokenHash,
} from '../../../src/lib/core/access/access-token.ts'
import type { ServerOptions } from '../../../src/lib/server/server.ts'
import { sendAny } from '../../support/network/any-request.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

/** Tokens over real HTTP: who is let in, to what, and what others are told. */

const LOGIN = { username: 'ci', password: 'correct-horse' }

let server: TestServer

async function create(scope: Scope, change: Partial<NewAccessToken> = {}): Promise<string> {
  const token = newTokenText()
  const asked = { name: scope, scope, repositories: [], createdBy: 'test', expiresInSeconds: null, ...change }
  expect(await server.store.tokens.create(asked, tokenHash(token))).not.toBeNull()
  return token
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})

const ask = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
  sendAny(method, `${server.url}${path}`, headers, body)
type Answer = Awaited<ReturnType<typeof ask>>
const problem = (answer: Answer) => JSON.parse(answer.body) as { id: string; message: string; hint?: string }
const order = (headers: Record<string, string>, repository = 'acme/app') =>
  ask(
    'POST',
    '/builds',
    { accept: 'application/json', ...headers },
    JSON.stringify({ repository, sha: sha('a') }),
  )
/** As a reverse proxy forwards it. */
const REMOTE = { 'x-forwarded-for': '203.0.113.7' }

describe.each([
  ['without a login', null],
  ['with a login', LOGIN],
  ['with --auth none', 'none'],
] as const)('%s', (_name, auth: ServerOptions['auth']) => {
  beforeEach(async () => {
    server = await startTestServer({ auth })
  })
  afterEach(() => server[Symbol.asyncDispose]())

  test.each([
    ['as a bearer token', bearer],
    ['as a password', (token: string) => basic('anyone', token)],
    ['as a password without a user name', (token: string) => basic('', token)],
    ['with the scheme in lower case', (token: string) => ({ authorization: `bearer  ${token} ` })],
  ])('a token lets its holder in: %s', async (_how, headers) => {
    const token = await create('build')
    expect((await order({ ...REMOTE, ...headers(token) })).status).toBe(201)
    expect((await ask('GET', `/builds/acme/app@${sha('a')}`, { ...REMOTE, ...headers(token) })).status).toBe(
      200,
    )
  })

  test('its last use is recorded', async () => {
    const token = await create('read')
    await ask('GET', '/', bearer(token))
    await expect.poll(async () => (await server.store.tokens.list())[0]?.lastUsedAt).toMatch(/^2/)
  })

  test('a token can do what its scope includes, and no more', async () => {
    const read = await create('read')
    expect((await ask('GET', '/', bearer(read))).status).toBe(200)
    const refused = await order(bearer(read))
    expect(refused.status).toBe(403)
    expect(problem(refused)).toEqual({
      id: 'forbidden',
      message: 'This needs the scope build, and read has the scope read',
      hint: expect.stringContaining('conveyor token create NAME --scope build'),
    })
    expect(await server.store.unfinished()).toEqual([])
  })

  test('one that is unknown, mistyped, revoked or expired is refused, also on this machine', async () => {
    const revoked = await create('build', { name: 'old' })
    await server.store.tokens.revoke('old')
    const expired = await create('build', { name: 'past', expiresInSeconds: -1 })
    const good = await create('build')
    const cases: [string, string][] = [
      [newTokenText(), 'The token is not valid'],
      [good.slice(0, -1), 'The token is mistyped or incomplete'],
      [good.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')), 'The token is mistyped or incomplete'],
      [revoked, 'The token old has been revoked'],
      [expired, expect.stringMatching(/^The token past expired at 2/)],
    ]
    for (const [token, message] of cases) {
      const answer = await order(bearer(token))
      expect(answer.status).toBe(401)
      expect(problem(answer)).toEqual({
        id: 'unauthorized',
        message,
        hint: 'Create a new one with `conveyor token create`',
      })
    }
    expect(await server.store.unfinished()).toEqual([])
  })

  test('a token is no excuse for another host name or a page of another site', async () => {
    const token = await create('build')
    expect((await order({ ...bearer(token), host: 'attacker.example' })).status).toBe(403)
    expect((await order({ ...bearer(token), origin: 'http://attacker.example' })).status).toBe(403)
    expect((await order({ ...basic('x', token), 'sec-fetch-site': 'cross-site' })).status).toBe(403)
    expect(await server.store.unfinished()).toEqual([])
  })

  test('repositories that a token is not for look as if they did not exist', async () => {
    const all = await create('build', { name: 'all' })
    const { id } = JSON.parse((await order(bearer(all), 'globex/secret')).body) as { id: string }
    const acme = bearer(await create('build', { repositories: ['acme/*'] }))
    const missing = '00000000-0000-4000-8000-000000000000'
    for (const path of ['/builds/ID', '/builds/ID/events', '/logs/ID', '/artifacts/ID']) {
      const hidden = await ask('GET', path.replace('ID', id), acme)
      const none = await ask('GET', path.replace('ID', missing), acme)
      expect([hidden.status, hidden.body]).toEqual([404, none.body.replaceAll(missing, id)])
    }
    expect((await ask('GET', `/builds/globex/secret@${sha('a')}`, acme)).status).toBe(404)
    expect((await ask('GET', `/builds/globex%2Fsecret@${sha('a')}`, acme)).status).toBe(404)
    const [known, unknown] = await Promise.all([order(acme, 'globex/secret'), order(acme, 'globex/no')])
    expect(known?.status).toBe(404)
    expect(known?.body.replace('secret', 'no')).toBe(unknown?.body)
    expect((await order(acme, 'ACME/App')).status).toBe(201)
  })
})

describe('a stream that is open while its token ends', () => {
  afterEach(() => server[Symbol.asyncDispose]())

  test.each([
    ['is revoked', { name: 'short' }],
    ['expires', { name: 'short', expiresInSeconds: 3600 }],
  ])('is cut when the token %s; others go on', async (_how, token) => {
    let laterMs = 0
    server = await startTestServer({ auth: LOGIN }, () => new Date(Date.now() + laterMs))
    const build = await server.begin(sha('a'))
    const open = (headers: Record<string, string>, path: string, accept = '*/*') =>
      fetch(`${server.url}${path}`, { headers: { ...headers, accept } })
    const short = bearer(await create('read', token))
    const paths = [`/builds/${build.id}/events`, `/logs/${build.id}`]
    const streams = await Promise.all([
      ...paths.map((path) => open(short, path)),
      open(short, `/logs/${build.id}/lines`, 'text/event-stream'),
    ])
    const others = await open(basic('ci', 'correct-horse'), `/logs/${build.id}`)
    expect(streams.map(({ status }) => status)).toEqual([200, 200, 200])
    if ('expiresInSeconds' in token) laterMs = 3_601_000
    else await server.store.tokens.revoke('short')
    await Promise.all(streams.map((stream) => expect(stream.text()).rejects.toThrow()))
    await server.writeLog(build, 'goes on\n')
    await server.fail(build, 'x')
    await server.endLog(build)
    expect(await others.text()).toContain('goes on')
  })
})

describe('a reader with very many streams', () => {
  afterEach(() => server[Symbol.asyncDispose]())

  test('gets no more than allowed; others can still read', async () => {
    server = await startTestServer({ auth: LOGIN, maxStreams: 50 })
    const build = await server.begin(sha('a'))
    const greedy = bearer(await create('read'))
    const gone = new AbortController()
    const open = (headers: Record<string, string>) =>
      fetch(`${server.url}/builds/${build.id}/events`, { headers, signal: gone.signal })
    // Kept: fetch closes the stream of a response that is garbage.
    const responses: Response[] = []
    for (let at = 0; at < 60; at++) responses.push(await open(greedy))
    expect(responses.slice(0, 50).filter(({ status }) => status !== 200)).toEqual([])
    expect(responses.slice(50).filter(({ status }) => status !== 429)).toEqual([])
    const refused = await open(greedy)
    expect(refused.headers.get('retry-after')).toBe('10')
    expect((await refused.json()) as unknown).toMatchObject({ id: 'too_many_requests' })
    expect((await open(basic('ci', 'correct-horse'))).status).toBe(200)
    gone.abort()
    await expect.poll(() => server.openReaders()).toBe(0)
    const later = await ask('GET', `/logs/${build.id}?follow=false`, greedy)
    expect(later.status).toBe(200)
  })
})

describe('what needs no token', () => {
  afterEach(() => server[Symbol.asyncDispose]())

  test('this machine, on a server without a login, also when there are tokens', async () => {
    server = await startTestServer({ auth: null })
    await create('read')
    expect((await order({})).status).toBe(201)
  })

  test('nobody else: once there is a token, others are asked for one', async () => {
    server = await startTestServer({ auth: null })
    const before = await ask('GET', '/', REMOTE)
    expect(before.status).toBe(403)
    expect(before.headers['www-authenticate']).toBeUndefined()
    await server.stop()
    await create('read')
    await server.start()
    const after = await ask('GET', '/', REMOTE)
    expect(after.status).toBe(401)
    expect(after.headers['www-authenticate']).toMatch(/^Basic realm="conveyor".*, Bearer realm="conveyor"$/)
    expect(problem(after).message).toMatch(/^A token is required\. Without a login, .* came through a proxy/)
    // A rebound host name must not make a browser send one.
    expect((await ask('GET', '/', { host: 'attacker.example' })).status).toBe(403)
  })

  test('the login can do everything, for all repositories', async () => {
    server = await startTestServer({ auth: LOGIN })
    await create('read')
    expect((await order(basic('ci', 'correct-horse'))).status).toBe(201)
    expect((await ask('GET', '/')).status).toBe(401)
    expect((await order(basic('ci', 'wrong'))).status).toBe(401)
  })
})

describe('failed logins', () => {
  const wrong = (at: number) => basic('ci', `wrong-${at}`)
  const good = basic('ci', 'correct-horse')
  /** The status of ten failed logins from an address, and what comes next. */
  const failTen = async (headers: Record<string, string> = {}) => {
    for (let at = 0; at < 10; at++) {
      expect((await ask('GET', '/', { ...headers, ...wrong(at) })).status).toBe(401)
    }
  }
  const proxies = { has: (address: string) => /^(::ffff:)?127\.0\.0\.1$/.test(address), login: null }
  afterEach(() => server[Symbol.asyncDispose]())

  test('after ten a minute the address has to wait, with the right password, too; tokens still work', async () => {
    server = await startTestServer({ auth: LOGIN })
    const token = await create('read')
    await failTen()
    const answer = await ask('GET', '/', good)
    expect(answer.status).toBe(429)
    const wait = Number(answer.headers['retry-after'])
    expect(wait).toBeGreaterThan(0)
    expect(wait).toBeLessThanOrEqual(60)
    expect(problem(answer)).toEqual({
      id: 'too_many_requests',
      message: 'Too many failed logins from this address',
      hint: `Try again in ${wait} s`,
    })
    expect((await ask('GET', '/', bearer(newTokenText()))).status).toBe(429)
    expect((await ask('GET', '/', bearer(token))).status).toBe(200)
    // It sent no login, so it did not fail.
    expect((await ask('GET', '/')).status).toBe(401)
    expect((await ask('GET', '/healthz')).status).toBe(200)
  })

  test('requests that come together do not get more attempts', async () => {
    server = await startTestServer({ auth: LOGIN })
    const { hostname, port } = new URL(server.url)
    const passwords = [...Array.from({ length: 100 }, (_, at) => `wrong-${at}`), 'correct-horse']
    const requests = passwords.map(
      (password) =>
        `GET / HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: ${basic('ci', password).authorization}\r\n\r\n`,
    )
    const socket = connect(Number(port), hostname)
    let answers = ''
    socket.on('data', (bytes) => {
      answers += bytes
    })
    socket.write(requests.join(''))
    const statuses = () => [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))
    await expect.poll(() => statuses().length).toBe(101)
    socket.destroy()
    expect(statuses().filter((status) => status === 401)).toHaveLength(10)
    expect(statuses().filter((status) => status === 429)).toHaveLength(91)
  })

  test('what succeeds does not count, nor what has no login', async () => {
    server = await startTestServer({ auth: LOGIN })
    for (let at = 0; at < 15; at++) {
      expect((await ask('GET', '/', good)).status).toBe(200)
      expect((await ask('GET', '/')).status).toBe(401)
    }
    await failTen()
    expect((await ask('GET', '/', good)).status).toBe(429)
  })

  test('a program that repeats its wrong password or token does not lock out others at its address', async () => {
    server = await startTestServer({ auth: LOGIN })
    const token = bearer(newTokenText())
    for (const headers of [wrong(1), token]) {
      for (let at = 0; at < 15; at++) expect((await ask('GET', '/', headers)).status).toBe(401)
    }
    expect((await ask('GET', '/', good)).status).toBe(200)
    // Two in turn are two guesses each time.
    for (let at = 0; at < 8; at++) expect((await ask('GET', '/', wrong(at % 2))).status).toBe(401)
    expect((await ask('GET', '/', good)).status).toBe(429)
  })

  test('wrong tokens count', async () => {
    server = await startTestServer({ auth: LOGIN })
    for (let at = 0; at < 10; at++) {
      expect((await ask('GET', '/', bearer(newTokenText()))).status).toBe(401)
    }
    expect((await ask('GET', '/', good)).status).toBe(429)
  })

  test('behind a trusted proxy, the address of the client counts; IPv6 by its network', async () => {
    server = await startTestServer({ auth: LOGIN, proxies })
    const from = (address: string) => ({ 'x-forwarded-for': address })
    // Only the proxy's own entry, the last, is true.
    await failTen(from('198.51.100.9, 203.0.113.7'))
    expect((await ask('GET', '/', { ...from('203.0.113.7'), ...good })).status).toBe(429)
    expect((await ask('GET', '/', { ...from('::ffff:203.0.113.7'), ...good })).status).toBe(429)
    expect((await ask('GET', '/', { ...from('198.51.100.9'), ...good })).status).toBe(200)
    expect((await ask('GET', '/', good)).status).toBe(200)
    await failTen(from('2001:db8:0:1::1'))
    expect((await ask('GET', '/', { ...from('2001:db8:0:1:ffff::2'), ...good })).status).toBe(429)
    expect((await ask('GET', '/', { ...from('2001:db8:0:2::1'), ...good })).status).toBe(200)
  })

  test('from anyone else, the forwarded address does not count', async () => {
    server = await startTestServer({ auth: LOGIN })
    for (let at = 0; at < 10; at++) {
      const headers = { ...wrong(at), 'x-forwarded-for': `203.0.113.${at}` }
      expect((await ask('GET', '/', headers)).status).toBe(401)
    }
    expect((await ask('GET', '/', { ...good, 'x-forwarded-for': '203.0.113.99' })).status).toBe(429)
  })
})

describe('a user that a proxy has authenticated', () => {
  const trusted = (scope: Scope = 'build', has = true) => ({
    proxies: { has: () => has, login: { header: 'x-forwarded-user', scope } },
  })
  afterEach(() => server[Symbol.asyncDispose]())

  test('has idempotency keys of its own, apart from those of a token of the same name', async () => {
    server = await startTestServer({ auth: LOGIN, ...trusted() })
    const alice = { 'x-forwarded-user': 'alice' }
    const token = bearer(await create('build', { name: 'alice' }))
    const key = { 'idempotency-key': 'deploy' }
    const post = async (headers: Record<string, string>, repository: string) => {
      const { status } = await order({ ...headers, ...key }, repository)
      return status
    }
    expect(await post(alice, 'acme/app')).toBe(201)
    expect(await post(token, 'acme/web')).toBe(201)
    expect(await post(alice, 'acme/app')).toBe(200)
    expect(await post(alice, 'acme/web')).toBe(422)
  })

  test.each([
    ['without a login', null],
    ['with a login', LOGIN],
    ['with --auth none', 'none'],
  ] as const)('has the scope of --auth.header-scope, %s', async (_name, auth) => {
    server = await startTestServer({ auth, ...trusted('read') })
    const alice = { 'x-forwarded-user': 'alice', ...REMOTE }
    expect((await ask('GET', '/', alice)).status).toBe(200)
    const refused = await order(alice)
    expect(refused.status).toBe(403)
    expect(problem(refused).message).toBe('This needs the scope build, and alice has the scope read')
  })

  test('may send a login of the proxy along; a token counts more', async () => {
    server = await startTestServer({ auth: LOGIN, ...trusted() })
    const alice = { 'x-forwarded-user': 'alice' }
    expect((await order({ ...alice, ...basic('alice', 'her password') })).status).toBe(201)
    expect((await order({ ...alice, ...bearer(await create('read')) })).status).toBe(403)
    expect((await order({ ...alice, ...bearer(newTokenText()) })).status).toBe(401)
  })

  test('has one printable name', async () => {
    server = await startTestServer({ auth: null, ...trusted() })
    const names: [string, number][] = [
      ['alice@example.com', 200],
      ['Zoë', 200],
      ['', 403],
      ['alice, mallory', 403],
      ['a\u202eb', 403],
      ['a'.repeat(101), 403],
    ]
    for (const [name, status] of names) {
      const header = Buffer.from(name).toString('latin1')
      expect([name, (await ask('GET', '/', { 'x-forwarded-user': header })).status]).toEqual([name, status])
    }
  })

  test.each([
    ['without a login', null, 403],
    ['with a login', LOGIN, 401],
  ] as const)('is not believed from others, who are told why: %s', async (_name, auth, status) => {
    server = await startTestServer({ auth, ...trusted('admin', false) })
    const answer = await ask('GET', '/', { 'x-forwarded-user': 'alice' })
    expect(answer.status).toBe(status)
    expect(problem(answer).hint).toBe(
      'The header x-forwarded-user is believed only from the proxies in --auth.proxies (AUTH_PROXIES), and this request is from 127.0.0.1',
    )
  })

  test('a trusted proxy is never taken for a client on this machine', async () => {
    server = await startTestServer({ auth: null, ...trusted() })
    const answer = await ask('GET', '/')
    expect(answer.status).toBe(403)
    expect(problem(answer).message).toContain('came through the proxy 127.0.0.1')
  })
})

describe('any Authorization header', () => {
  beforeAll(async () => {
    server = await startTestServer({ auth: LOGIN })
  })
  afterAll(() => server[Symbol.asyncDispose]())

  test('is answered with 200, 401 or 429, and only a right one with 200', async () => {
    const token = await create('read')
    const base64 = fc.string({ unit: 'binary' }).map((value) => Buffer.from(value).toString('base64'))
    const piece = fc.oneof(
      fc.constantFrom(
        'Basic',
        'bearer',
        'BASIC',
        ' ',
        '  ',
        ':',
        '=',
        'cvy_',
        token,
        token.slice(4),
        'Digest',
      ),
      base64,
      // What Node's client can send.
      fc.stringMatching(/^[\x20-\x7e\x80-\xff]{0,60}$/),
    )
    const header = fc.oneof(
      fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
      base64.map((text) => `Basic ${text}`),
      fc.string({ unit: 'binary' }).map((pass) => basic('ci', pass).authorization),
      fc.string().map((text) => `Bearer cvy_${Buffer.from(text).toString('base64url')}`),
    )
    await fc.assert(
      fc.asyncProperty(header, async (authorization) => {
        const { status } = await ask('GET', '/', { authorization })
        expect(authorization.includes(token) ? [200, 401, 429] : [401, 429]).toContain(status)
      }),
      { numRuns: 300 },
    )
    expect(server.lines).toEqual([])
  })
})
