import type { ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { parseChallenges } from '../../src/lib/registry/auth.ts'
import {
  clientWith,
  failure,
  frontOf,
  httpDouble,
  manifestOf,
  OCI,
  pushBlob,
  type TokenRegistry,
  tokenRegistry,
} from '../support/registry/doubles.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'

const stack = new AsyncDisposableStack()
afterAll(() => stack.disposeAsync())

describe('a registry with htpasswd', () => {
  const me = { username: 'me', password: 'pa:ss' }
  let registry: TestRegistry
  let part: { digest: string; size: number }
  beforeAll(async () => {
    registry = stack.use(await startRegistry({ htpasswd: me }))
    const authorization = `Basic ${Buffer.from('me:pa:ss').toString('base64')}`
    part = await pushBlob(registry.url, 'acme/app', Buffer.from('{}'), { authorization })
  })

  test('the login is looked up once, and used for reading and tagging', async () => {
    await using front = await frontOf(registry.host)
    const client = clientWith({ [front.host]: me })
    const name = `${front.host}/acme/app`
    const image = manifestOf(OCI, part)
    await client.putManifest(name, 'one', image)
    await Promise.all(['two', 'three'].map((tag) => client.putManifest(name, tag, image)))
    expect(await client.head(name, 'three')).toBe(image.digest)
    expect(await client.head(name, 'two')).toBe(image.digest)
    // One refused request for writing and one for reading; after that, the header is sent right away.
    expect(front.seen.map(({ authorization }) => authorization !== undefined)).toEqual([
      false,
      true,
      true,
      true,
      false,
      true,
      true,
    ])
    expect(client.asked).toEqual([front.host, front.host])
  })

  test('no login, and an invalid one', async () => {
    const name = `${registry.host}/acme/app`
    const none = await failure(clientWith().head(name, 'one'))
    expect(none.kind).toBe('unauthorized')
    expect(none.advice).toBe(
      `registry ${registry.host} requires a login, but none is configured while reading ${name}:one. ` +
        `Run \`docker login ${registry.host}\` as the user that Conveyor runs as`,
    )
    const wrong = { username: 'me', password: 'not-the-password' }
    const error = await failure(clientWith({ [registry.host]: wrong }).manifest(name, 'one'))
    expect(error.kind).toBe('unauthorized')
    expect(error.message).toContain('rejected the login of me')
    expect(error.advice).not.toContain('not-the-password')
  })

  test('a login that was corrected is used', async () => {
    const logins = { [registry.host]: { username: 'me', password: 'old' } }
    const client = clientWith(logins)
    await failure(client.head(`${registry.host}/acme/app`, 'none'))
    logins[registry.host] = me
    expect(await client.head(`${registry.host}/acme/app`, 'none')).toBeNull()
  })

  test('a redirect to another host gets no login, even if it requires one', async () => {
    await using elsewhere = await httpDouble((_req, res) => {
      res.writeHead(401, { 'www-authenticate': 'Basic realm="give"' }).end()
    })
    await using front = await frontOf(registry.host, (req, res) => {
      if (!req.headers.authorization) return false
      res.writeHead(307, { location: `http://${elsewhere.host}${req.url}` }).end()
      return true
    })
    const image = manifestOf(OCI, part)
    const client = clientWith({ [front.host]: me, [elsewhere.host]: me })
    expect((await failure(client.manifest(`${front.host}/acme/app`, 'one'))).kind).toBe('unauthorized')
    expect(elsewhere.seen.map(({ authorization }) => authorization)).toEqual([undefined])
    // And a manifest is not sent there at all.
    expect((await failure(client.putManifest(`${front.host}/acme/app`, 'one', image))).message).toMatch(
      /HTTP 307/,
    )
    expect(elsewhere.seen).toHaveLength(1)
  })
})

describe('a registry with a token server', () => {
  const me = { username: 'me', password: 'secret' }
  let registry: TokenRegistry
  let part: { digest: string; size: number }
  const name = () => `${registry.host}/acme/app`
  beforeAll(async () => {
    registry = stack.use(await tokenRegistry({ me: me.password }, 'refresh-me'))
    part = await upload('acme/app')
  })

  /** Uploads a blob, with a token that is fetched by hand. */
  async function upload(path: string) {
    const challenge = await fetch(`http://${registry.host}/v2/`)
    const [bearer] = parseChallenges(challenge.headers.get('www-authenticate') ?? '')
    const url = new URL(bearer?.params.realm ?? '')
    url.searchParams.set('service', bearer?.params.service ?? '')
    url.searchParams.set('scope', `repository:${path}:pull,push`)
    const login = Buffer.from('me:secret').toString('base64')
    const answer = await fetch(url, { headers: { authorization: `Basic ${login}` } })
    const { access_token } = (await answer.json()) as { access_token: string }
    return pushBlob(`http://${registry.host}`, path, Buffer.from('{}'), {
      authorization: `Bearer ${access_token}`,
    })
  }

  test('one token serves all tags of an image', async () => {
    const client = clientWith({ [registry.host]: me })
    const image = manifestOf(OCI, part)
    registry.tokens.length = 0
    await Promise.all(['a', 'b', 'c', 'd'].map((tag) => client.putManifest(name(), tag, image)))
    await client.putManifest(name(), 'e', image)
    expect(registry.tokens).toHaveLength(1)
    const query = new URL(registry.tokens[0]?.url ?? '', 'http://x').searchParams
    expect(query.get('service')).toBe('the, "registry"')
    expect(query.get('scope')?.split(':').slice(0, 2)).toEqual(['repository', 'acme/app'])
    expect(await client.head(name(), 'e')).toBe(image.digest)
    expect(registry.tokens).toHaveLength(2)
  })

  test('an expired token is not sent again', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => {
      vi.useRealTimers()
      registry.life = 300
    })
    registry.life = 5
    await using front = await frontOf(registry.host)
    const client = clientWith({ [front.host]: me })
    registry.tokens.length = 0
    expect(await client.head(`${front.host}/acme/app`, 'none')).toBeNull()
    expect(await client.head(`${front.host}/acme/app`, 'none')).toBeNull()
    expect(registry.tokens).toHaveLength(1)
    vi.setSystemTime(Date.now() + 5_000)
    expect(await client.head(`${front.host}/acme/app`, 'none')).toBeNull()
    expect(registry.tokens).toHaveLength(2)
    const sent = front.seen.map(({ authorization }) => authorization?.split(' ')[0])
    expect(sent).toEqual([undefined, 'Bearer', 'Bearer', undefined, 'Bearer'])
  })

  test('a token that the registry no longer accepts is renewed once', async () => {
    let refusals = 0
    await using front = await frontOf(registry.host, (req) => {
      if (refusals > 0 && refusals--) delete req.headers.authorization
      return false
    })
    const client = clientWith({ [front.host]: me })
    const name = `${front.host}/acme/app`
    expect(await client.head(name, 'none')).toBeNull()
    registry.tokens.length = 0
    front.seen.length = 0

    refusals = 1
    expect(await client.head(name, 'none')).toBeNull()
    expect([registry.tokens.length, front.seen.length]).toEqual([1, 2])
    refusals = 2
    expect((await failure(client.head(name, 'none'))).message).toContain('rejected the login of me')
    expect([registry.tokens.length, front.seen.length]).toEqual([2, 4])
  })

  test('an identity token is exchanged', async () => {
    const client = clientWith({ [registry.host]: { username: '<token>', password: 'refresh-me' } })
    registry.tokens.length = 0
    await client.putManifest(name(), 'by-token', manifestOf(OCI, part))
    expect(registry.tokens.map(({ method }) => method)).toEqual(['POST'])
    expect(new URLSearchParams(registry.tokens[0]?.body).get('grant_type')).toBe('refresh_token')
    expect(registry.tokens[0]?.url).not.toContain('refresh-me')
  })

  test('anonymous users can read public images, and get a hint to log in for others', async () => {
    const image = manifestOf(OCI, await upload('public/app'))
    await clientWith({ [registry.host]: me }).putManifest(`${registry.host}/public/app`, 'main', image)
    const client = clientWith()
    expect(await client.head(`${registry.host}/public/app`, 'main')).toBe(image.digest)
    for (const work of [
      () => client.head(name(), 'main'),
      () => client.putManifest(`${registry.host}/public/app`, 'main', image),
    ]) {
      const error = await failure(work())
      expect(error.kind).toBe('unauthorized')
      expect(error.hint).toContain(`docker login ${registry.host}`)
    }
  })

  test('a ping reports the login that it accepts, without requesting a token for a repository', async () => {
    registry.tokens.length = 0
    const { host } = registry
    const ping = (login?: { username: string; password: string }) =>
      clientWith(login ? { [host]: login } : {}).ping(host)
    expect(await ping(me)).toEqual({ secure: false, asks: true, login: 'me' })
    const token = { username: '<token>', password: 'refresh-me' }
    expect(await ping(token)).toEqual({ secure: false, asks: true, login: '<token>' })
    expect(await ping()).toEqual({ secure: false, asks: true, login: null })
    expect((await failure(ping({ ...me, password: 'wrong-password' }))).kind).toBe('unauthorized')
    expect(registry.tokens.filter(({ url, body }) => /scope/.test(url + body))).toEqual([])
    expect(registry.tokens).toHaveLength(4)
  })

  test('even if its challenge names one, like that of ghcr.io', async () => {
    await using double = await httpDouble((req, res) => {
      const challenge = `Bearer realm="http://${req.headers.host}/token",scope="repository:user/image:pull"`
      if (req.url?.startsWith('/token')) res.end('{"token": "t"}')
      else if (req.headers.authorization === 'Bearer t') res.end('{}')
      else res.writeHead(401, { 'www-authenticate': challenge }).end()
    })
    expect(await clientWith({ [double.host]: me }).ping(double.host)).toMatchObject({ login: 'me' })
    expect(double.seen.map(({ url }) => url)).toEqual(['/v2/', '/token?account=me', '/v2/'])
  })

  test.each([
    { username: 'me', password: 'wrong-password' },
    { username: '<token>', password: 'wrong-password' },
  ])('a rejected login: $username', async (login) => {
    const error = await failure(clientWith({ [registry.host]: login }).head(name(), 'main'))
    expect(error.kind).toBe('unauthorized')
    expect(error.message).toMatch(/^token server .* rejected the credentials for registry/)
    expect(error.message).toContain('acme/app:main')
    expect(error.advice).not.toContain('wrong-password')
  })
})

describe('a token server that never ends its answer', () => {
  /** A registry whose token server goes on for as long as the client listens, until `finish` is called. */
  async function endless() {
    const waiting = new Set<ServerResponse>()
    const double = await httpDouble((req, res) => {
      if (req.headers.authorization) return void res.writeHead(404).end()
      if (!req.url?.startsWith('/token')) {
        const challenge = `Bearer realm="http://${req.headers.host}/token"`
        return void res.writeHead(401, { 'www-authenticate': challenge }).end()
      }
      waiting.add(res)
      const timer = setInterval(() => res.writableEnded || res.write(' '), 20)
      res.on('close', () => clearInterval(timer))
    })
    onTestFinished(() => double[Symbol.asyncDispose]())
    const asked = (path: string) => double.seen.filter(({ url }) => url.startsWith(path)).length
    const finish = () => {
      for (const res of waiting) res.end('{"token": "t"}')
    }
    return { name: `${double.host}/acme/app`, asked, finish }
  }

  test('is left when the build is cancelled, and others go on waiting for the same token', async () => {
    const { name, asked, finish } = await endless()
    const client = clientWith()
    const cancelled = new AbortController()
    const theirs = client.head(name, 'main', new AbortController().signal)
    await expect.poll(() => asked('/token')).toBe(1)
    const mine = client.head(name, 'main', cancelled.signal)
    await expect.poll(() => asked('/v2/')).toBe(2)
    cancelled.abort(new Error('cancelled'))
    await expect(mine).rejects.toThrow('cancelled')
    finish()
    expect(await theirs).toBeNull()
    expect(asked('/token')).toBe(1)
  })

  test('is given up after a while, and not asked again at once', async () => {
    const { name, asked } = await endless()
    const error = await failure(clientWith({}, { requestMs: 5000 }).head(name, 'main'))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toMatch(
      /^token server \S+ does not respond \(its answer was not complete after 5 s\)/,
    )
    expect(asked('/token')).toBe(1)
  })
})

test.each([
  [undefined, []],
  ['Basic realm="a, b"', [{ scheme: 'basic', params: { realm: 'a, b' } }]],
  [
    'Bearer realm="https://x/t",service=reg,scope="repository:a/b:pull,push"',
    [
      {
        scheme: 'bearer',
        params: { realm: 'https://x/t', service: 'reg', scope: 'repository:a/b:pull,push' },
      },
    ],
  ],
  [
    'Negotiate, BASIC Realm = "say \\"hi\\"" , Bearer realm="x"',
    [
      { scheme: 'negotiate', params: {} },
      { scheme: 'basic', params: { realm: 'say "hi"' } },
      { scheme: 'bearer', params: { realm: 'x' } },
    ],
  ],
  ['"""', []],
])('WWW-Authenticate: %s', (header, challenges) => expect(parseChallenges(header)).toEqual(challenges))
