import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Agent } from 'undici'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { registryClient } from '../../src/lib/registry/client.ts'
import { findPushedTag } from '../../src/lib/registry/push-errors.ts'
import type { Manifest } from '../../src/lib/registry/registry.ts'
import { freePort } from '../support/processes.ts'
import { ANSWERS, answerWith, BARE_REFUSAL } from '../support/registry/answers.ts'
import {
  clientWith,
  DOCKER,
  DOCKER_LIST,
  failure,
  frontOf,
  httpDouble,
  manifestOf,
  OCI,
  OCI_INDEX,
  pushBlob,
  selfSigned,
} from '../support/registry/doubles.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'

const stack = new AsyncDisposableStack()
let plain: TestRegistry
let blob: { digest: string; size: number }

beforeAll(async () => {
  plain = stack.use(await startRegistry())
  blob = await pushBlob(plain.url, 'acme/app', Buffer.from('{}'))
})
afterAll(() => stack.disposeAsync())

describe('deleteTag', () => {
  const answering = async (status: number) => {
    const double = await httpDouble((_req, res) => void res.writeHead(status).end())
    onTestFinished(() => double[Symbol.asyncDispose]())
    return { double, name: `${double.host}/acme/app` }
  }

  test.each([202, 200, 204, 404])('has removed the tag if the registry answers %d', async (status) => {
    const { double, name } = await answering(status)
    expect(await clientWith().deleteTag(name, 'pr-7')).toBe(true)
    expect(double.seen).toMatchObject([{ method: 'DELETE', url: '/v2/acme/app/manifests/pr-7' }])
  })

  test.each([400, 401, 403, 405, 501])('is refused with %d, which is no error', async (status) => {
    const { name } = await answering(status)
    expect(await clientWith().deleteTag(name, 'pr-7')).toBe(false)
  })

  test('never removes an image by its digest, with all its tags', async () => {
    const { double, name } = await answering(202)
    const error = await failure(clientWith().deleteTag(name, `sha256:${'0'.repeat(64)}`))
    expect(error.kind).toBe('invalid')
    expect(double.seen).toEqual([])
  })

  test('is tried again later if the registry is not available', async () => {
    const { name } = await answering(503)
    expect((await failure(clientWith().deleteTag(name, 'pr-7'))).kind).toBe('unavailable')
  })

  test('leaves the image and its other tags in a real registry, which removes none', async () => {
    const client = clientWith()
    const name = `${plain.host}/acme/app`
    const image = manifestOf(OCI, blob)
    for (const tag of ['kept', 'pr-7']) await client.putManifest(name, tag, image)
    expect(await client.deleteTag(name, 'pr-7')).toBe(false)
    expect(await client.head(name, 'kept')).toBe(image.digest)
  })
})

describe('an open registry', () => {
  test.each([OCI, DOCKER, OCI_INDEX, DOCKER_LIST])(
    'keeps bytes, digest and type of %s',
    async (mediaType) => {
      const client = clientWith()
      const name = `${plain.host}/acme/app`
      const image = manifestOf(OCI, blob)
      await client.putManifest(name, 'image', image)
      const isList = mediaType === OCI_INDEX || mediaType === DOCKER_LIST
      const part = isList ? { digest: image.digest, size: image.bytes.length } : blob
      const wanted = manifestOf(mediaType, part)

      await client.putManifest(name, 'first', wanted)
      expect(await client.head(name, 'first')).toBe(wanted.digest)
      const read = await client.manifest(name, 'first')
      expect(read).toEqual({ ...wanted, bytes: Buffer.from(wanted.bytes) })

      await client.putManifest(name, 'second', read)
      expect(await client.head(name, 'second')).toBe(wanted.digest)
      expect(await client.head(name, wanted.digest)).toBe(wanted.digest)
      expect((await client.manifest(name, wanted.digest)).digest).toBe(wanted.digest)
      // The registry is on loopback and never required a login, so no credentials were looked up.
      expect(client.asked).toEqual([])
    },
  )

  test('missing manifests', async () => {
    const client = clientWith()
    const name = `${plain.host}/acme/app`
    expect(await client.head(name, 'nope')).toBeNull()
    expect(await client.head(`${plain.host}/acme/unknown`, 'main')).toBeNull()
    const error = await failure(client.manifest(name, 'nope'))
    expect(error.kind).toBe('not_found')
    expect(error.message).toContain(`reading ${name}:nope: the registry does not have it (HTTP 404 `)
    expect(error.message).toContain('MANIFEST_UNKNOWN')
  })

  test('a manifest whose layers the repository does not have', async () => {
    const missing = manifestOf(DOCKER, { digest: `sha256:${'0'.repeat(64)}`, size: 2 })
    const error = await failure(clientWith().putManifest(`${plain.host}/acme/other`, 'main', missing))
    expect(error.kind).toBe('not_found')
    expect(error.message).toContain('acme/other:main')
  })

  test('bytes that are not a manifest', async () => {
    const bytes = Buffer.from('hello')
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const error = await failure(
      clientWith().putManifest(`${plain.host}/acme/app`, 'main', { bytes, digest, mediaType: OCI }),
    )
    expect([error.kind, error.retryable]).toEqual(['invalid', false])
    expect(error.message).toMatch(/MANIFEST_INVALID/)
  })

  test.each([
    ['acme/app', '../x'],
    ['acme/app', 'sha256:12'],
    ['acme/app:main', 'main'],
    ['acme/../app', 'main'],
  ])('%s with %s never becomes a request', async (name, reference) => {
    expect((await failure(clientWith().head(`${plain.host}/${name}`, reference))).kind).toBe('invalid')
  })
})

describe('a registry with a configured address', () => {
  test('is reached at that address, under its name', async () => {
    const image = manifestOf(OCI, blob)
    await using front = await frontOf(plain.host, () => false)
    const client = clientWith({}, { addresses: new Map([['localhost:1', front.host]]) })
    await client.putManifest('localhost:1/acme/app', 'elsewhere', image)
    expect(await clientWith().head(`${plain.host}/acme/app`, 'elsewhere')).toBe(image.digest)
    expect(await client.head(`${plain.host}/acme/app`, 'elsewhere')).toBe(image.digest)
    expect(front.seen).toHaveLength(1)
    const { kind } = await failure(clientWith().head('localhost:1/acme/app', 'elsewhere'))
    expect(kind).toBe('unavailable')
  })

  test('with TLS is verified by its name, not by its address', async () => {
    await using folder = await tempDir()
    const { key, certificate } = await selfSigned(folder.path, 'registry.test')
    const names: string[] = []
    const SNICallback = (name: string, done: (error: null) => void) => {
      names.push(name)
      done(null)
    }
    const server = createTlsServer({ key, cert: certificate, SNICallback }, (_req, res) => res.end())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
    const client = clientWith({}, { addresses: new Map([['registry.test:443', address]]), backoffMs: [] })
    // The certificate is not trusted, but the request got there by name.
    const { advice } = await failure(client.head('registry.test/acme/app', 'main'))
    expect(advice).toContain('certificate is not trusted')
    expect(names).toEqual(['registry.test'])
  })
})

describe('connection problems', () => {
  const name = (host: string) => `${host}/acme/app`
  let image: Manifest
  beforeAll(async () => {
    image = manifestOf(OCI, blob)
    const client = registryClient({ credentials: { forHost: async () => null }, mayBeLocal: () => true })
    await client.putManifest(name(plain.host), 'main', image)
    await client.close()
  })

  test.each([
    ['a lost connection', (res: ServerResponse) => res.destroy(), /does not respond/],
    [
      'HTTP 503',
      (res: ServerResponse) => res.writeHead(503).end(),
      /failed to process the request \(HTTP 503\)$/,
    ],
    [
      'HTTP 429',
      (res: ServerResponse) => res.writeHead(429, { 'retry-after': '0' }).end(),
      /rate-limiting requests \(HTTP 429\)$/,
    ],
  ])('%s is retried three times', async (_, fail, said) => {
    await using twice = await frontOf(plain.host, (_req, res, count) => {
      if (count > 3) return false
      fail(res)
      return true
    })
    expect((await clientWith().manifest(name(twice.host), 'main')).digest).toBe(image.digest)
    expect(twice.seen).toHaveLength(4)

    await using always = await frontOf(plain.host, (_req, res) => {
      fail(res)
      return true
    })
    const error = await failure(clientWith().putManifest(name(always.host), 'main', image))
    expect([error.kind, error.retryable]).toEqual(['unavailable', true])
    expect(error.message).toContain(`tagging ${always.host}/acme/app:main`)
    expect(error.message).toMatch(said)
    expect(always.seen).toHaveLength(4)
  })

  test('an unreachable registry', async () => {
    const host = `127.0.0.1:${await freePort()}`
    const error = await failure(clientWith().head(name(host), 'main'))
    expect(error.kind).toBe('unavailable')
    expect(error.message).toBe(
      `registry ${host} does not respond (connect ECONNREFUSED ${host}) while reading ${host}/acme/app:main`,
    )
    expect(error.hint).toBeDefined()
  })

  test('a registry that recovers during the retries', async () => {
    await using registry = await startRegistry()
    const part = await pushBlob(registry.url, 'acme/app', Buffer.from('{}'))
    const client = clientWith({}, { backoffMs: Array(500).fill(200) })
    await client.putManifest(name(registry.host), 'main', manifestOf(OCI, part))
    await registry.stop()
    const late = client.head(name(registry.host), 'main')
    await registry.start()
    expect(await late).toBe(manifestOf(OCI, part).digest)
  })

  test('a registry that requests a long wait is not waited for', async () => {
    await using busy = await frontOf(plain.host, (_req, res) => {
      res.writeHead(429, { 'retry-after': '3600' }).end()
      return true
    })
    const error = await failure(clientWith().head(name(busy.host), 'main'))
    expect(error.message).toContain('HTTP 429, retry after 3600 s')
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true, retryAfterMs: 3_600_000 })
    expect(busy.seen).toHaveLength(1)
  })

  test.each(['tag kept', 'tag kept by Harbor', 'denied'])(
    'an immutable tag (%s) is fine if it is the same already, and otherwise an error',
    async (answer) => {
      const client = clientWith()
      const kept = name(plain.host).replace('app', `kept-${answer.replaceAll(' ', '-').toLowerCase()}`)
      const path = kept.slice(plain.host.length + 1)
      const part = await pushBlob(plain.url, path, Buffer.from('{}'))
      const image = manifestOf(OCI, part)
      await client.putManifest(kept, 'main', image)
      await using front = await frontOf(plain.host, (req, res) => {
        if (req.method !== 'PUT') return false
        answerWith(ANSWERS[answer] ?? { status: 500, body: '' }, res)
        return true
      })
      await client.putManifest(`${front.host}/${path}`, 'main', image)
      const other = await failure(
        client.putManifest(`${front.host}/${path}`, 'main', manifestOf(DOCKER, part)),
      )
      expect(other.retryable).toBe(false)
      expect(other.message).toMatch(
        answer === 'denied'
          ? /denied access/
          : /already points to another image, and the registry does not allow changing it/,
      )
      expect(front.seen.filter(({ method }) => method === 'PUT')).toHaveLength(2)
    },
  )

  test.each([
    ['denied', 'unauthorized', /has write access to acme\/app$/],
    ['no repository', 'not_found', /^Create the repository acme\/app in /],
    ['read-only', 'unavailable', /is read-only/],
    ['too large', 'unavailable', /nginx: client_max_body_size 0/],
    ['quota of Harbor', 'unavailable', /have the quota raised$/],
    ['quota of Quay', 'unavailable', /have the quota raised$/],
  ])('%s is an error with a hint, and is not retried', async (answer, kind, hint) => {
    await using front = await frontOf(plain.host, (req, res) => {
      if (req.method !== 'PUT') return false
      answerWith(ANSWERS[answer] ?? { status: 500, body: '' }, res)
      return true
    })
    const error = await failure(clientWith().putManifest(name(front.host), 'none', image))
    expect(error).toMatchObject({ kind, retryable: false })
    expect(error.hint).toMatch(hint)
    expect(front.seen.filter(({ method }) => method === 'PUT')).toHaveLength(1)
  })

  test('a manifest that was modified in transit is refused', async () => {
    await using liar = await frontOf(plain.host, (req, res) => {
      if (req.method !== 'GET') return false
      res.writeHead(200, { 'content-type': OCI, 'docker-content-digest': image.digest }).end('{}')
      return true
    })
    for (const reference of ['main', image.digest]) {
      const error = await failure(clientWith().manifest(name(liar.host), reference))
      expect(error.message).toContain(`not ${image.digest}`)
    }
  })

  test('without a digest in the header, it is computed from the bytes', async () => {
    await using terse = await frontOf(plain.host, (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/plain' }).end(image.bytes)
      return true
    })
    expect(await clientWith().head(name(terse.host), 'main')).toBe(image.digest)
    expect((await clientWith().manifest(name(terse.host), 'main')).mediaType).toBe(OCI)
  })

  test('an endless response is cut off', async () => {
    await using endless = await frontOf(plain.host, (_req, res) => {
      const pour = () => {
        while (!res.destroyed && res.write(Buffer.alloc(65_536))) {}
      }
      res.on('drain', pour)
      pour()
      return true
    })
    expect((await failure(clientWith().manifest(name(endless.host), 'main'))).message).toMatch(
      /more than 4 MiB/,
    )
  })
})

test('long JSON, which would block the event loop, is not parsed', async () => {
  const long = `[${'[],'.repeat((4 << 20) / 3 - 1)}[]]`
  await using double = await httpDouble((req, res) => {
    const realm = `Bearer realm="http://${req.headers.host}/token"`
    if (req.url?.startsWith('/token')) res.end(long)
    else if (req.url?.endsWith('locked')) res.writeHead(401, { 'www-authenticate': realm }).end(long)
    else res.writeHead(req.url?.endsWith('denied') ? 403 : 200).end(long)
  })
  const name = `${double.host}/acme/app`
  const client = clientWith()
  const parse = vi.spyOn(JSON, 'parse')
  onTestFinished(() => parse.mockRestore())
  expect(await client.manifest(name, 'main')).toMatchObject({ mediaType: 'application/octet-stream' })
  expect((await failure(client.manifest(name, 'denied'))).message).toMatch(/\(HTTP 403\)$/)
  expect((await failure(client.manifest(name, 'locked'))).message).toMatch(/ issued no token \(HTTP 200\) /)
  const lookup = { registry: client, signal: undefined }
  expect(
    await findPushedTag(BARE_REFUSAL, `${name}:main`, lookup, async ({ imageId }) => imageId !== ''),
  ).toBeNull()
  const lengths = parse.mock.calls.map(([text]) => text.length)
  expect(Math.max(...lengths)).toBeLessThan(1 << 20)
})

describe('TLS', () => {
  /** Uses the name of another host, but connects to this machine. */
  function agent(ca?: string): Agent {
    const lookup = (
      _: string,
      __: unknown,
      done: (e: null, found: { address: string; family: number }[]) => void,
    ) => done(null, [{ address: '127.0.0.1', family: 4 }])
    const dispatcher = new Agent({ connect: { lookup: lookup as never, ...(ca && { ca }) } })
    onTestFinished(() => dispatcher.close())
    return dispatcher
  }

  test('is used for hosts other than this machine, with checked certificates and token servers', async () => {
    await using folder = await tempDir()
    await using tokens = await httpDouble((_req, res) => void res.end('{"token": "x"}'))
    const { key, certificate } = await selfSigned(folder.path, 'registry.test')
    let challenge = ''
    const server = createTlsServer({ key, cert: certificate }, (_req, res) => {
      if (challenge) res.writeHead(401, { 'www-authenticate': challenge }).end()
      else res.writeHead(404).end()
    })
    onTestFinished(() => void server.close())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const host = `registry.test:${(server.address() as AddressInfo).port}`
    const login = { [host]: { username: 'me', password: 'secret' } }

    expect(await clientWith({}, { dispatcher: agent(certificate) }).head(`${host}/a/b`, 'main')).toBeNull()
    const untrusted = await failure(clientWith({}, { dispatcher: agent() }).head(`${host}/a/b`, 'main'))
    expect(untrusted.advice).toMatch(/certificate is not trusted.*NODE_EXTRA_CA_CERTS/)

    challenge = `Bearer realm="http://${tokens.host}/"`
    const downgrade = await failure(
      clientWith(login, { dispatcher: agent(certificate) }).head(`${host}/a/b`, 'main'),
    )
    expect(downgrade.message).toMatch(/token server without TLS/)
    expect(tokens.seen).toEqual([])
  })

  test('can be disabled for a host', async () => {
    const host = `registry.test:${plain.host.split(':')[1]}`
    const error = await failure(clientWith({}, { dispatcher: agent() }).head(`${host}/acme/app`, 'none'))
    expect(error.advice).toMatch(/the TLS handshake failed.*http:\/\//)
    const client = clientWith({}, { dispatcher: agent(), insecureHosts: [host] })
    expect(await client.head(`${host}/acme/app`, 'none')).toBeNull()
  })
})
