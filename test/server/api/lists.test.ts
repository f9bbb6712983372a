import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type {
  BuildListJson,
  DeliveryListJson,
  RepositoryJson,
  RepositoryListJson,
} from '../../../src/lib/api/lists.ts'
import { repositoryFilter } from '../../../src/lib/core/allowed-repositories.ts'
import { pushPayload, sendPush, sendWebhook } from '../../support/github/push.ts'
import { IMAGE, sha, startTestServer, type TestServer } from '../../support/test-server.ts'

const JSON_ONLY = { accept: 'application/json' }
const shaOf = (number: number) => number.toString(16).padStart(40, '0')

describe('lists', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer()
  })
  afterEach(() => server[Symbol.asyncDispose]())

  async function get<T>(
    path: string,
  ): Promise<{ status: number; json: T & { field?: string; message?: string } }> {
    const answer = await fetch(path.startsWith('http') ? path : server.url + path, { headers: JSON_ONLY })
    return { status: answer.status, json: JSON.parse(await answer.text()) }
  }

  let added = 0
  async function add(branch: string, repository = 'acme/app', title = 'Change something') {
    added += 1
    const { build } = await server.store.accept({
      ...{ repository, sha: shaOf(added), ref: { kind: 'branch', name: branch }, defaultBranch: 'main' },
      ...{ cache: true, commit: { title, author: 'Ada', login: 'ada' } },
      source: { kind: 'webhook', delivery: randomUUID() },
    })
    return build
  }

  it('GET /builds has the newest builds first, with commit, source and image', async () => {
    await add('main')
    const build = await server.begin(sha('b'), 'dev')
    await server.succeed(build)
    const { status, json } = await get<BuildListJson>('/builds')
    expect(status).toBe(200)
    expect(json.next).toBeNull()
    expect(json.builds).toEqual([
      expect.objectContaining({ id: build.id, image: IMAGE, state: 'succeeded', branch: 'dev' }),
      expect.objectContaining({
        state: 'pending',
        image: null,
        source: 'webhook',
        commit: { title: 'Change something', author: 'Ada', login: 'ada' },
      }),
    ])
  })

  it('GET /builds filters, and follows `next` with the same filter', async () => {
    const expected: string[] = []
    for (let i = 0; i < 5; i++) expected.unshift((await add('feature/ü&x=1', 'Acme/Web')).id)
    await add('main', 'acme/web')
    await add('feature/ü&x=1', 'acme/app')
    const query = new URLSearchParams({
      repository: 'acme/WEB',
      branch: 'feature/ü&x=1',
      limit: '2',
      state: 'pending',
    })
    const found: string[] = []
    let pages = 0
    for (let url: string | null = `/builds?${query}`; url !== null; pages++) {
      const { json }: { json: BuildListJson } = await get<BuildListJson>(url)
      found.push(...json.builds.map(({ id }) => id))
      url = json.next
    }
    expect(found).toEqual(expected)
    expect(pages).toBe(3)
  })

  it('GET /builds takes any text as text', async () => {
    const { id } = await add('main', 'acme/app', `100% "odd" it's 🚀 a_b`)
    await add('main')
    for (const text of ['%', '_', '"odd"', `it's`, '🚀']) {
      const { json } = await get<BuildListJson>(`/builds?${new URLSearchParams({ text })}`)
      expect(json.builds.map((build) => build.id)).toEqual([id])
    }
    for (const text of ['\0', `' or 1=1 --`, '*', '\\'])
      expect(await get(`/builds?${new URLSearchParams({ text })}`)).toMatchObject({
        status: 200,
        json: { builds: [] },
      })
  })

  it.each([
    ['/builds?state=done', 'state'],
    ['/builds?limit=0', 'limit'],
    ['/builds?limit=1000', 'limit'],
    ['/builds?limit=x', 'limit'],
    ['/builds?since=yesterday', 'since'],
    ['/builds?repository=acme', 'repository'],
    ['/builds?repository=a/b/c', 'repository'],
    [`/builds?text=${'x'.repeat(201)}`, 'text'],
    ['/builds?cursor=abc', 'cursor'],
    ['/builds?branch=a&branch=b', 'branch'],
    ['/repositories?cursor=abc', 'cursor'],
    ['/repositories/acme/app?limit=501', 'limit'],
    ['/deliveries?limit=-1', 'limit'],
    ['/deliveries?repository=%00', 'repository'],
  ])('%s is invalid, and the answer names the field %s', async (path, field) => {
    await add('main')
    const { status, json } = await get(path)
    expect(status).toBe(400)
    expect(json).toMatchObject({ id: 'invalid', field })
  })

  it('GET /repositories has each repository with its last build', async () => {
    await add('main', 'acme/a')
    await add('main', 'acme/b')
    const last = await add('dev', 'Acme/A')
    const { json } = await get<RepositoryListJson>('/repositories?limit=1')
    expect(json.repositories).toEqual([
      {
        name: 'Acme/A',
        url: `${server.url}/repositories/Acme/A`,
        last: expect.objectContaining({ id: last.id }),
        compared: null,
      },
    ])
    const second = await get<RepositoryListJson>(json.next ?? '')
    expect(second.json).toMatchObject({ repositories: [{ name: 'acme/b' }], next: null })
  })

  it('GET /repositories/OWNER/NAME has branches with the command that pulls their image', async () => {
    const built = await server.begin(sha('c'), 'main')
    await server.succeed(built)
    const failing = await server.begin(sha('d'), 'main')
    await server.fail(failing, 'no')
    await add('new')
    const { status, json } = await get<RepositoryJson>('/repositories/ACME/app')
    expect(status).toBe(200)
    expect(json.name).toBe('acme/app')
    expect(json.branches).toEqual([
      expect.objectContaining({ kind: 'branch', name: 'new', image: null, pull: null }),
      {
        kind: 'branch',
        name: 'main',
        last: expect.objectContaining({ id: failing.id, state: 'failed', image: null }),
        image: IMAGE,
        pull: `docker pull ${IMAGE}`,
      },
    ])
    expect(await get('/repositories/acme/none')).toMatchObject({ status: 404, json: { id: 'not_found' } })
  })

  it('GET /repositories has the last comparison with the git server, and why it failed; pages show it', async () => {
    await add('main', 'Acme/A')
    const { comparisons } = server.store
    const page = async () => {
      return (await fetch(`${server.url}/repositories/acme/a`, { headers: { accept: 'text/html' } })).text()
    }
    expect(await page()).not.toContain('without a webhook')
    await comparisons.failed('acme/a', 'the <git> server is down', 60)
    const failed = { at: expect.stringMatching(/^20.*Z$/), error: 'the <git> server is down' }
    const { json } = await get<RepositoryListJson>('/repositories')
    expect(json.repositories[0]?.compared).toEqual(failed)
    expect((await get<RepositoryJson>('/repositories/acme/a')).json.compared).toEqual(failed)
    expect(await page()).toContain(
      'Pushes without a webhook are not found: <bdi>the &lt;git&gt; server is down</bdi>',
    )
    await comparisons.compared('acme/a', { heads: new Uint8Array(), sequence: 9, waiting: [] }, 60)
    expect(await page()).toContain('Compared with the git server for pushes without a webhook')
  })

  it('GET /builds works while 10,000 builds are added, and neither misses nor repeats one', async () => {
    const before: string[] = []
    for (let i = 0; i < 40; i++) before.unshift((await add('main')).id)
    let left = 10_000
    const adding = Promise.all(Array.from({ length: left }, () => add('main').then(() => left--)))
    let walks = 0
    while (left > 0 || walks === 0) {
      const seen: BuildListJson['builds'] = []
      for (let url: string | null = '/builds?branch=main&limit=7'; url !== null && seen.length < 70; ) {
        const { status, json }: { status: number; json: BuildListJson } = await get<BuildListJson>(url)
        expect(status).toBe(200)
        seen.push(...json.builds)
        url = json.next
      }
      const numbers = seen.map((build) => Number.parseInt(build.sha, 16))
      // Builds were added in the order of their numbers.
      expect(numbers).toEqual(numbers.map((_, at) => (numbers[0] ?? 0) - at))
      walks += 1
    }
    await adding
    expect(walks).toBeGreaterThan(1)
  })
})

describe('deliveries that build nothing', () => {
  const SECRET = 'hush'
  const PUSH = { repository: 'acme/app', ref: 'refs/heads/main', sha: sha('a'), secret: SECRET }
  let server: TestServer
  afterEach(() => server[Symbol.asyncDispose]())

  async function deliveries(query = ''): Promise<DeliveryListJson['deliveries']> {
    const answer = await fetch(`${server.url}/deliveries${query}`, { headers: JSON_ONLY })
    expect(answer.status).toBe(200)
    return ((await answer.json()) as DeliveryListJson).deliveries
  }

  it('are listed with their reasons, each once', async () => {
    server = await startTestServer({ githubSecret: SECRET, isAllowed: repositoryFilter(['acme/*']) })
    const url = server.url
    await sendPush({ ...PUSH, url, delivery: 'built' })
    await sendPush({ ...PUSH, url, delivery: 'deleted', deleted: true })
    await sendPush({ ...PUSH, url, delivery: 'fork', fork: true })
    await sendPush({ ...PUSH, url, delivery: 'fork', fork: true })
    await sendPush({ ...PUSH, url, delivery: 'other', repository: 'Other/app' })
    const payload = await pushPayload(PUSH)
    await sendWebhook({ url, event: 'release', delivery: 'release', payload, secret: SECRET })
    await sendWebhook({ url, event: 'ping', delivery: 'ping', payload: { zen: 'x' }, secret: SECRET })
    const at = expect.stringMatching(/^\d{4}-.*Z$/)
    const about = { event: 'push', repository: 'acme/app', ref: 'refs/heads/main', at }
    expect(await deliveries()).toEqual([
      { id: 'ping', event: 'ping', repository: null, ref: null, reason: 'ping: pong', at },
      { ...about, id: 'release', event: 'release', reason: 'event "release": it builds nothing' },
      { ...about, id: 'other', repository: 'Other/app', reason: expect.stringContaining('not allowed') },
      { ...about, id: 'fork', reason: 'the repository is a fork: forks are never built' },
      { ...about, id: 'deleted', reason: '"refs/heads/main" was deleted: nothing to build' },
    ])
    expect((await deliveries('?repository=other/APP')).map(({ id }) => id)).toEqual(['other'])
    expect((await deliveries('?limit=1')).map(({ id }) => id)).toEqual(['ping'])
    // Comparing branches does not find what was ignored.
    const heads = ['main', 'dev'].map((name) => {
      return { ref: { kind: 'branch', name } as const, sha: sha('a'), object: sha('a'), before: null }
    })
    expect(await server.store.comparisons.unknown('other/app', heads, 0)).toEqual([heads[1]])
  })

  it('are not recorded for strangers', async () => {
    server = await startTestServer({ githubSecret: SECRET })
    const { secret: _, ...unsigned } = PUSH
    expect((await sendPush({ ...unsigned, url: server.url, fork: true })).status).toBe(401)
    expect((await sendPush({ ...PUSH, secret: 'guess', url: server.url, fork: true })).status).toBe(401)
    expect(await deliveries()).toEqual([])
  })

  it('are not recorded without a secret, as anyone can send them', async () => {
    server = await startTestServer()
    const { secret: _, ...unsigned } = PUSH
    expect((await sendPush({ ...unsigned, url: server.url, fork: true })).status).toBe(200)
    expect(await deliveries()).toEqual([])
  })

  it('are answered even if they cannot be recorded', async () => {
    server = await startTestServer({ githubSecret: SECRET })
    await server.store.close()
    const answer = await sendPush({ ...PUSH, url: server.url, delivery: 'fork', fork: true })
    expect(answer.status).toBe(200)
    expect(server.lines.join('\n')).toContain('webhook fork: could not record why nothing was built')
  })
})

describe('POST /builds with an Idempotency-Key', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer()
    server.github.setHead('acme/app', 'main', sha('a'))
  })
  afterEach(() => server[Symbol.asyncDispose]())

  async function post(key: string, change: object = {}) {
    const answer = await fetch(`${server.url}/builds`, {
      method: 'POST',
      body: JSON.stringify({ repository: 'acme/app', branch: 'main', ...change }),
      headers: { ...JSON_ONLY, 'idempotency-key': key },
    })
    return { status: answer.status, json: (await answer.json()) as { id: string; field?: string } }
  }

  it('answers a repeated request with the same build, also when the branch has moved', async () => {
    const first = await post('"one"')
    expect(first.status).toBe(201)
    server.github.setHead('acme/app', 'main', sha('b'))
    expect(await post('"one"')).toEqual({ status: 200, json: first.json })
    expect((await post('"two"')).json.id).not.toBe(first.json.id)
  })

  it('answers a repeated request for a commit that was built before with that build', async () => {
    const built = await server.begin(sha('a'), 'main')
    await server.succeed(built)
    expect((await post('k')).json.id).toBe(built.id)
    server.github.setHead('acme/app', 'main', sha('b'))
    expect((await post('k')).json.id).toBe(built.id)
  })

  it('makes one build of concurrent requests', async () => {
    const all = await Promise.all(Array.from({ length: 10 }, () => post('same', { cache: false })))
    expect(new Set(all.map(({ json }) => json.id)).size).toBe(1)
    expect(all.filter(({ status }) => status === 201)).toHaveLength(1)
  })

  it('rejects another request with the same key, and odd keys', async () => {
    await post('k')
    for (const change of [{ cache: false }, { sha: sha('b') }, { repository: 'acme/web' }]) {
      expect(await post('k', change)).toMatchObject({
        status: 422,
        json: { id: 'idempotency_key_reused', field: 'Idempotency-Key' },
      })
    }
    for (const key of ['', 'x'.repeat(256), 'ü']) {
      expect(await post(key)).toMatchObject({
        status: 400,
        json: { id: 'invalid', field: 'Idempotency-Key' },
      })
    }
    expect((await post('x'.repeat(255))).status).toBe(200)
  })
})
