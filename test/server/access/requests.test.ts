import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, test } from 'vitest'
import type { ServerOptions } from '../../../src/lib/server/server.ts'
import { sendPush } from '../../support/github/push.ts'
import { sendAny } from '../../support/network/any-request.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

/** Access to the API: from this machine, from pages in its browser, and through a proxy on it. */

const LOGIN = { username: 'ci', password: 'correct-horse' }
const AUTHORIZATION = `Basic ${Buffer.from('ci:correct-horse').toString('base64')}`
const ORDER = JSON.stringify({ repository: 'acme/app', sha: sha('a') })

let server: TestServer
afterEach(() => server[Symbol.asyncDispose]())
const start = async (options: Partial<ServerOptions>) => {
  server = await startTestServer(options)
}

const ask = async (method: string, path: string, headers: Record<string, string> = {}, body?: string) => {
  const { headers: got, ...answer } = await sendAny(method, `${server.url}${path}`, headers, body)
  return { ...answer, type: String(got['content-type']) }
}
/** The response to exactly these bytes. */
async function raw(bytes: string): Promise<string> {
  const socket = connect(Number(port()), '127.0.0.1')
  socket.write(bytes)
  return text(socket)
}
const order = (headers: Record<string, string> = {}) =>
  ask('POST', '/builds', { accept: 'application/json', ...headers }, ORDER)
const port = () => new URL(server.url).port
const nothingBuilt = async () => expect(await server.store.unfinished()).toEqual([])

describe('without credentials', () => {
  test.each(['localhost', 'LOCALHOST', '127.0.0.1', '127.8.9.10', '[::1]', 'localhost.'])(
    'a request for %s from this machine is accepted',
    async (name) => {
      await start({ auth: null })
      expect((await order({ host: `${name}:${port()}` })).status).toBe(201)
    },
  )

  test.each([
    'attacker.example',
    'localhost.attacker.example',
    '127.0.0.1.attacker.example',
    '0.0.0.0',
    '10.1.2.3',
    '[::]',
    'me@localhost',
    'localhost/x',
  ])('a request for a rebound host name is refused: %j', async (name) => {
    await start({ auth: null })
    for (const path of ['/', '/builds/x', '/logs/x', '/artifacts/x', '/builds/x/events', '/nothing']) {
      expect((await ask('GET', path, { host: name })).status).toBe(403)
    }
    expect((await order({ host: name })).status).toBe(403)
    await nothingBuilt()
  })

  test.each([
    ['forwarded', 'for=10.1.2.3'],
    ['x-forwarded-for', '10.1.2.3'],
    ['x-forwarded-proto', 'https'],
    ['x-forwarded', '1'],
    ['X-Real-IP', '10.1.2.3'],
    ['via', '1.1 proxy'],
  ])('a request through a proxy is refused: %s', async (name, value) => {
    await start({ auth: null })
    expect(await order({ [name]: value })).toMatchObject({
      status: 403,
      body: expect.stringContaining(`came through a proxy: it has the header ${name.toLowerCase()}`),
    })
    await nothingBuilt()
  })

  test('behind a proxy on this machine, only webhooks are accepted', async () => {
    await start({ auth: null, githubSecret: 'hush' })
    // Like a reverse proxy: it sends requests to our own address, with the client's address in a header.
    const proxy = createServer((incoming, outgoing) => {
      const { host: _, ...headers } = incoming.headers
      const onward = request(`${server.url}${incoming.url}`, {
        method: incoming.method ?? '',
        headers: { ...headers, 'x-forwarded-for': '203.0.113.7' },
      })
      onward.on('response', (answer) => answer.pipe(outgoing.writeHead(answer.statusCode ?? 0)))
      incoming.pipe(onward)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    expect((await fetch(`${url}/builds`, { method: 'POST', body: ORDER })).status).toBe(403)
    expect((await fetch(`${url}/logs/acme/app@${sha('a')}`)).status).toBe(403)
    await nothingBuilt()
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    const push = { repository: 'acme/app', ref: 'refs/heads/main', sha: sha('a'), secret: 'hush' }
    expect((await sendPush({ ...push, url })).status).toBe(202)
    proxy.close()
    proxy.closeAllConnections()
  })

  test.each(['https://ci.example.com', 'https://127.0.0.1.example:8443/path'])(
    'with the public URL %s, a proxy that leaves no trace may be in front: refused',
    async (url) => {
      await start({ auth: null, baseUrl: () => url })
      expect(await order({ host: `127.0.0.1:${port()}` })).toMatchObject({
        status: 403,
        body: expect.stringContaining(`this one may have come through the proxy that serves ${url}`),
      })
      await nothingBuilt()
      expect((await ask('GET', '/healthz')).status).toBe(200)
    },
  )

  test.each(['http://localhost:9', 'https://127.0.0.1', 'http://[::1]', 'http://ci.example.com'])(
    'with the URL %s, nothing may be in front: accepted',
    async (url) => {
      await start({ auth: null, baseUrl: () => url })
      expect((await order()).status).toBe(201)
    },
  )

  test('HTTP/1.0, the default of nginx before 1.29.7, counts as a proxy', async () => {
    await start({ auth: null })
    expect(await raw(`GET / HTTP/1.0\r\nHost: localhost:${port()}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 403 [\s\S]*it has the protocol version HTTP\/1\.0/,
    )
  })

  test.each(['Host:', 'Host: ', 'X: y'])(
    'a request without a valid Host header is refused: %j',
    async (line) => {
      await start({ auth: null })
      expect(await raw(`GET / HTTP/1.0\r\n${line}\r\n\r\n`)).toMatch(
        /^HTTP\/1\.1 403 [\s\S]*this one has no valid Host header/,
      )
    },
  )

  test('names the options to set: in JSON for programs, as a page for browsers', async () => {
    await start({ auth: null })
    const host = 'attacker.example'
    const json = await ask('GET', '/builds/x', { host })
    expect(json.type).toBe('application/json; charset=utf-8')
    expect(JSON.parse(json.body)).toEqual({
      id: 'forbidden',
      message:
        'Without a login, the server only accepts requests from this machine, and this one is for the host attacker.example',
      hint: expect.stringMatching(/--auth user:pass \(BASIC_AUTH\).*conveyor bootstrap.*--auth none/),
    })
    const page = await ask('GET', '/', { host, accept: 'text/html,application/xhtml+xml,*/*;q=0.8' })
    expect(page).toMatchObject({ status: 403, type: 'text/html; charset=utf-8' })
    expect(page.body).toMatch(/<p>Without a login, the server only accepts.*\n.*--auth user:pass/)
  })
})

describe.each([
  ['without credentials', null],
  ['with credentials', LOGIN],
  ['with --auth none', 'none'],
] as const)('cross-site requests, %s', (_name, auth) => {
  const login = auth === LOGIN ? { authorization: AUTHORIZATION } : undefined

  test.each([
    'http://attacker.example',
    'https://localhost.attacker.example',
    'http://localhost:3000',
    'http://127.0.0.1',
    'null',
    'file://',
    'not a URL',
  ])('from the origin %s are refused', async (origin) => {
    await start({ auth })
    const form = { ...login, origin, 'content-type': 'text/plain' }
    expect(await order(form)).toMatchObject({ status: 403, body: expect.stringContaining('Cross-site') })
    expect((await ask('GET', '/builds/x/events', { ...login, origin })).status).toBe(403)
    await nothingBuilt()
  })

  test.each(['cross-site', 'same-site'])('with Sec-Fetch-Site %s may not start builds', async (site) => {
    await start({ auth })
    expect((await order({ ...login, 'sec-fetch-site': site })).status).toBe(403)
    await nothingBuilt()
    // Following a link from there is allowed.
    expect((await ask('GET', '/builds/x', { ...login, 'sec-fetch-site': site })).status).toBe(404)
  })

  test('a page of the server itself may start builds', async () => {
    await start({ auth })
    const origin = `http://localhost:${port()}`
    expect((await order({ ...login, host: `localhost:${port()}`, origin })).status).toBe(201)
  })
})

describe.each([
  ['credentials', LOGIN],
  ['--auth none', 'none'],
] as const)('with %s', (_name, auth) => {
  const login = auth === LOGIN ? { authorization: AUTHORIZATION } : undefined
  const known = {
    auth,
    baseUrl: () => 'https://conveyor.acme.dev',
    allowedHosts: ['Conveyor.lan', '*.inside.acme.dev'],
  }

  test.each([
    'conveyor.acme.dev',
    'conveyor.acme.dev:8080',
    'conveyor.lan',
    'one.inside.acme.dev',
    'localhost:8080',
    '10.1.2.3:8080',
    '[fe80::1]:8080',
  ])('the host name %s is accepted', async (host) => {
    await start(known)
    expect((await order({ ...login, host, 'x-forwarded-for': '203.0.113.7' })).status).toBe(201)
  })

  test.each([
    'attacker.example',
    'xconveyor.acme.dev',
    'conveyor.acme.dev.attacker.example',
    'inside.acme.dev',
  ])('the host name %s is refused', async (host) => {
    await start(known)
    for (const path of ['/', '/builds/x', '/logs/x', '/artifacts/x']) {
      const answer = await ask('GET', path, { ...login, host })
      expect(answer.status).toBe(403)
      expect(JSON.parse(answer.body)).toEqual({
        id: 'forbidden',
        message: `${host} is not a known host name of this server`,
        hint: expect.stringContaining('--allowed-hosts'),
      })
    }
    expect((await order({ ...login, host })).status).toBe(403)
    await nothingBuilt()
    expect((await ask('GET', '/healthz', { host })).status).toBe(200)
  })

  test('* allows every host name', async () => {
    await start({ ...known, allowedHosts: ['*'] })
    expect((await order({ ...login, host: 'any.example' })).status).toBe(201)
  })

  test('its own pages may start builds when TLS ends at a proxy, whatever Host header that sends', async () => {
    await start(known)
    const origin = 'https://conveyor.acme.dev'
    for (const host of ['conveyor.acme.dev', 'conveyor.lan:8080']) {
      expect((await order({ ...login, host, origin })).status).toBeLessThan(300)
    }
    expect((await order({ ...login, host: 'conveyor.lan:8080', origin: 'http://conveyor.lan' })).status).toBe(
      403,
    )
  })

  test('webhooks are accepted for any host name', async () => {
    await start({ ...known, githubSecret: 'hush' })
    const headers = { host: 'hooks.example', origin: 'https://x.example', 'x-github-event': 'ping' }
    const answer = await ask('POST', '/', headers, '{}')
    expect(answer).toMatchObject({ status: 401, body: expect.stringContaining('not signed') })
  })
})

test('missing or wrong credentials get a 401', async () => {
  await start({ auth: LOGIN })
  for (const headers of [undefined, { authorization: `Basic ${Buffer.from('ci:x').toString('base64')}` }]) {
    expect((await order(headers)).status).toBe(401)
  }
  await nothingBuilt()
  expect((await order({ authorization: AUTHORIZATION })).status).toBe(201)
})
