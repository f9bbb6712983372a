import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pushPayload } from '../../support/github/push.ts'
import { type Stranger, type StrangerRequest, startStranger } from '../../support/network/stranger.ts'
import { type ConveyorServer, startConveyor } from '../../support/processes.ts'
import { GITHUB_TOKEN, startWorld, WEBHOOK_SECRET, type World } from '../../support/world.ts'

/** A server with the settings of the README, accessed from another machine. */

let world: World
let stranger: Stranger
beforeAll(async () => {
  ;[world, stranger] = await Promise.all([startWorld(), startStranger()])
})
afterAll(async () => {
  await stranger[Symbol.asyncDispose]()
  await world[Symbol.asyncDispose]()
})

/** Listens on every address, as it does by default. */
async function startOpen(env: NodeJS.ProcessEnv = {}): Promise<ConveyorServer & { port: number }> {
  const server = await startConveyor(['server'], {
    env: { ...world.env, HOST: '0.0.0.0', ...env },
    ready: /http:\/\/localhost:\d+/,
  })
  return Object.assign(server, { port: Number(new URL(server.url).port) })
}

const SHA = 'a'.repeat(40)

/** Everything the server has, and the responses to strangers without and with a login. */
const ROUTES: [request: StrangerRequest, answers: { none: number; login: number; open: number }][] = [
  [
    { method: 'GET', path: '/' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'HEAD', path: '/' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: '/builds/ID' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'HEAD', path: '/builds/ID' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: `/builds/acme/private@${SHA}` },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: `/builds/acme%2Fprivate@${SHA}` },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: '/builds/ID/events' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: `/builds/acme/private@${SHA}/events` },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: '/logs/ID' },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: `/logs/acme/private@${SHA}` },
    { none: 403, login: 401, open: 200 },
  ],
  [
    { method: 'GET', path: '/artifacts/ID' },
    { none: 403, login: 401, open: 404 },
  ],
  [
    { method: 'GET', path: `/artifacts/acme/private@${SHA}` },
    { none: 403, login: 401, open: 404 },
  ],
  [
    { method: 'GET', path: '/nothing' },
    { none: 403, login: 401, open: 404 },
  ],
  [
    { method: 'PUT', path: '/builds' },
    { none: 403, login: 401, open: 405 },
  ],
  [
    { method: 'OPTIONS', path: '/builds' },
    { none: 403, login: 401, open: 404 },
  ],
  [
    { method: 'DELETE', path: '/builds/ID' },
    { none: 403, login: 401, open: 405 },
  ],
  [
    { method: 'GET', path: '/webhooks/github' },
    { none: 403, login: 401, open: 405 },
  ],
  [
    { method: 'POST', path: '/healthz' },
    { none: 403, login: 401, open: 405 },
  ],
  [
    { method: 'GET', path: '/builds/%zz' },
    { none: 400, login: 400, open: 400 },
  ],
  [
    { method: 'GET', path: '/healthz' },
    { none: 200, login: 200, open: 200 },
  ],
  [
    { method: 'HEAD', path: '/healthz' },
    { none: 200, login: 200, open: 200 },
  ],
  [
    { method: 'POST', path: '/' },
    { none: 401, login: 401, open: 401 },
  ],
  [
    { method: 'POST', path: '/webhooks/github' },
    { none: 401, login: 401, open: 401 },
  ],
]

/** The Host headers that a client may send; the last case is a page in a browser. */
const disguises = (port: number): Record<string, string>[] => [
  { host: `${stranger.address}:${port}` },
  { host: `localhost:${port}` },
  { host: `127.0.0.1:${port}`, 'x-forwarded-for': '127.0.0.1' },
  { host: `localhost:${port}`, origin: `http://localhost:${port}` },
]

const order: StrangerRequest = {
  method: 'POST',
  path: '/builds',
  headers: { accept: 'application/json' },
  body: JSON.stringify({ repository: 'acme/private', sha: 'b'.repeat(40) }),
}

/** An earlier build, whose log no stranger may see; it fails immediately because its commit does not exist. */
async function buildBefore(server: { port: number }, login = ''): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${server.port}/builds`, {
    method: 'POST',
    body: JSON.stringify({ repository: 'acme/private', sha: SHA }),
    headers: { accept: 'application/json', ...(login && { authorization: login }) },
  })
  expect(answer.ok).toBe(true)
  return ((await answer.json()) as { id: string }).id
}

describe.each([
  ['no credentials', 'none', {}],
  ['credentials', 'login', { BASIC_AUTH: 'ci:correct-horse' }],
  ['--auth none', 'open', { BASIC_AUTH: 'none' }],
] as const)('a server with %s', (_, mode, env) => {
  let server: Awaited<ReturnType<typeof startOpen>>
  let id: string
  const login = mode === 'login' ? `Basic ${Buffer.from('ci:correct-horse').toString('base64')}` : ''
  beforeAll(async () => {
    server = await startOpen(env)
    id = await buildBefore(server, login)
  })
  afterAll(() => server.kill())

  test('responds to strangers on every route as the table says', async () => {
    const ask = ROUTES.map(([{ path, ...one }]) => ({ ...one, path: path.replace('ID', id) }))
    const answers = await stranger.ask(server.port, ask)
    const got = ROUTES.map(([{ method, path }], index) => `${method} ${path}: ${answers[index]?.status}`)
    expect(got).toEqual(ROUTES.map(([{ method, path }, by]) => `${method} ${path}: ${by[mode]}`))
    if (mode !== 'open') for (const { body } of answers) expect(body).not.toMatch(/acme|private/)
  })

  test('accepts requests only from allowed clients', async () => {
    for (const headers of disguises(server.port)) {
      const one = { ...order, headers: { ...order.headers, ...headers } }
      const [plain, known] = await stranger.ask(server.port, [
        one,
        { ...one, headers: { ...one.headers, authorization: login } },
      ])
      expect(plain?.status).toBe({ none: 403, login: 401, open: plain?.status }[mode])
      if (mode === 'open') expect(plain?.status).toBeLessThan(300)
      if (mode === 'none') expect(plain?.body).toContain('--auth user:pass (BASIC_AUTH)')
      if (mode === 'login') expect(known?.status).toBeLessThan(300)
    }
  })

  test("accepts GitHub's signed webhooks from anywhere, under any host name", async () => {
    const payload = await pushPayload({
      ...{ repository: 'acme/private', ref: 'refs/heads/main', sha: 'c'.repeat(40) },
    })
    const body = JSON.stringify(payload)
    const signature = createHmac('sha256', WEBHOOK_SECRET).update(body).digest('hex')
    const headers = {
      ...{ host: 'hooks.acme.dev', 'x-forwarded-for': '203.0.113.7', 'content-type': 'application/json' },
      ...{ 'x-github-event': 'push', 'x-github-delivery': `from-a-stranger-${mode}` },
      'x-hub-signature-256': `sha256=${signature}`,
    }
    const [taken] = await stranger.ask(server.port, [{ method: 'POST', path: '/', headers, body }])
    expect(taken?.status).toBe(202)
  })

  test('logs at startup who can use it', () => {
    const lines = {
      none: /^--auth \(BASIC_AUTH\) is not set: only requests from this machine are accepted, except to webhooks, \/healthz and \/readyz$/m,
      login: /listening/,
      open: /^warning: --auth \(BASIC_AUTH\) is none: anyone who can reach this server can start builds and read all logs$/m,
    }
    expect(server.stderr()).toMatch(lines[mode])
    expect(server.stderr()).not.toContain(GITHUB_TOKEN)
  })
})
