import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { repositoryFilter } from '../../src/lib/core/allowed-repositories.ts'
import { IMAGE, sha, startTestServer, type TestServer } from '../support/test-server.ts'

const JSON_ONLY = { accept: 'application/json' }

const run = promisify(execFile)

let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
afterEach(() => server[Symbol.asyncDispose]())

async function get(path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, { headers })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text, json: () => JSON.parse(text) }
}

async function post(body: unknown, headers: Record<string, string> = JSON_ONLY) {
  const answer = await fetch(`${server.url}/builds`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
  return {
    status: answer.status,
    headers: answer.headers,
    json: (await answer.json()) as { id: string; [key: string]: unknown },
  }
}

describe('POST /builds', () => {
  it.each([
    ['our spelling', { repository: 'acme/app', sha: sha('a').toUpperCase(), branch: 'feature/x' }],
    ['the first spelling', { Repository: 'acme/app', Sha: sha('a'), Branch: 'feature/x' }],
  ])('creates a build, in %s', async (_name, body) => {
    server.github.setHead('acme/app', 'feature/x', sha('a'))
    const { status, json, headers } = await post(body)
    expect(status).toBe(201)
    expect(headers.get('location')).toBe(`${server.url}/builds/${json.id}`)
    expect(json).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      repository: 'acme/app',
      branch: 'feature/x',
      tag: null,
      refs: [{ kind: 'branch', name: 'feature/x' }],
      sha: sha('a'),
      commit: null,
      source: 'api',
      state: 'pending',
      error: null,
      error_kind: null,
      image: null,
      url: `${server.url}/builds/${json.id}`,
      log: `${server.url}/logs/${json.id}`,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      started_at: null,
      completed_at: null,
    })
    expect((await server.queue.receive(AbortSignal.timeout(5_000)))?.buildId).toBe(json.id)
  })

  it('reads the body as JSON whatever curl calls it', async () => {
    const body = JSON.stringify({ Repository: 'acme/app', Sha: sha('a'), Branch: '' })
    const { status, json } = await post(body, {
      ...JSON_ONLY,
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect(status).toBe(201)
    expect(json.branch).toBeNull()
  })

  it.each([{ cache: false }, { NoCache: true }])('takes %j', async (option) => {
    const { json } = await post({ repository: 'acme/app', sha: sha('a'), ...option })
    expect((await server.store.get(json.id))?.cache).toBe(false)
  })

  it('resolves a branch, and treats a push during the lookup as newer', async () => {
    server.github.setHead('acme/app', 'main', sha('b'))
    const { status, json } = await post({ repository: 'acme/app', branch: 'main' })
    expect(status).toBe(201)
    expect(json).toMatchObject({ sha: sha('b'), branch: 'main' })
    const [ref] = (await server.store.get(json.id))?.refs ?? []
    // One number was reserved before the lookup, and the build itself took the next.
    expect(ref?.sequence).toBeLessThan((await server.store.get(json.id))?.sequence ?? 0)
    expect(server.github.violations).toEqual([])
  })

  it('joins the running build', async () => {
    const first = await post({ repository: 'acme/app', sha: sha('a') })
    const second = await post({ repository: 'acme/app', sha: sha('a') })
    expect([first.status, second.status]).toEqual([201, 200])
    expect(second.json.id).toBe(first.json.id)
  })

  it('does not queue a build again that a worker already has', async () => {
    const build = await server.begin(sha('a'))
    const { json } = await post({ repository: 'acme/app', sha: sha('a') })
    expect(json).toMatchObject({ id: build.id, state: 'building' })
    expect(await server.queue.receive(AbortSignal.timeout(50))).toBeNull()
  })

  it('answers with an earlier build, unless the cache is disabled or another branch requests it', async () => {
    const build = await server.begin(sha('a'), 'main')
    await server.succeed(build)
    const order = { repository: 'acme/app', sha: sha('a') }
    for (const same of [order, { ...order, branch: 'main' }]) {
      const again = await post(same)
      expect(again.status).toBe(200)
      expect(again.json).toMatchObject({ id: build.id, state: 'succeeded', image: IMAGE })
    }
    expect(await server.store.unfinished()).toEqual([])

    server.github.setHead('acme/app', 'other', sha('a'))
    const other = await post({ ...order, branch: 'other' })
    expect(other.status).toBe(201)
    await server.succeed(await server.begin(sha('a')))
    const fresh = await post({ ...order, cache: false })
    expect(fresh.status).toBe(201)
    expect(fresh.json.id).not.toBe(other.json.id)
  })

  it('reports which tags a commit does not move, in every format, and moves latest for the default branch', async () => {
    server.github.setHead('acme/app', 'main', sha('b'))
    const order = { repository: 'acme/app', sha: sha('a'), branch: 'main' }
    const reason = 'the branch main of acme/app does not contain aaaaaaa'
    const withheld = [
      { tag: 'main', reason },
      { tag: 'latest', reason },
    ]
    const { json } = await post(order)
    expect(json).toMatchObject({ branch: null, refs: [], withheld })
    expect((await get(`/builds/${json.id}`)).json()).toMatchObject({ withheld })
    expect(server.lines).toContain(`api: build ${json.id} does not move tag main: ${reason}`)
    const build = await server.store.claim(json.id)
    if (!build) throw new Error('not claimed')
    await server.succeed(build)
    const text = await fetch(`${server.url}/builds`, { method: 'POST', body: JSON.stringify(order) })
    expect(await text.text()).toBe(
      `tag main is not moved: ${reason}\ntag latest is not moved: ${reason}\n${IMAGE}\n`,
    )
    // The default branch points at it by now, and `latest` has not been moved for it yet.
    server.github.setHead('acme/app', 'main', sha('a'))
    const alone = await post({ repository: 'acme/app', sha: sha('a') })
    expect(alone.status).toBe(201)
    expect((await server.store.get(alone.json.id))?.pushOrder).toBeGreaterThan(0)
    expect(server.github.violations).toEqual([])
  })

  it('spells a repository as GitHub does', async () => {
    server.github.setHead('Mixed/App', 'main', sha('a'))
    const branch = await post({ repository: 'mixed/app', branch: 'main' })
    expect(branch.json.repository).toBe('Mixed/App')
    const commit = await post({ repository: 'MIXED/app', sha: sha('a') })
    expect(commit.json).toMatchObject({ id: branch.json.id, repository: 'Mixed/App' })
  })

  it('rebuilds a failed build', async () => {
    const build = await server.begin(sha('a'))
    await server.fail(build, 'no Dockerfile')
    const again = await post({ repository: 'acme/app', sha: sha('a') })
    expect(again.status).toBe(201)
    expect(again.json.id).not.toBe(build.id)
  })

  const good = { repository: 'acme/app', sha: sha('a') }
  it.each([
    ['an unknown key', { ...good, Dockerfile: 'x', '<b>': 1 }, /unknown keys "Dockerfile", "<b>"/],
    [
      'a prototype',
      `{"__proto__": {"sha": "${sha('a')}"}, "repository": "acme/app"}`,
      /unknown key "__proto__"/,
    ],
    ['both spellings', { ...good, Sha: sha('b') }, /sha is given in both spellings/],
    ['no repository', { sha: sha('a') }, /repository is missing/],
    ['no commit', { repository: 'acme/app' }, /sha and branch are both missing/],
    ['a bad repository', { ...good, repository: '../etc' }, /not of the form owner\/name/],
    ['a short sha', { ...good, sha: 'abc123' }, /not a full commit id/],
    ['a number as sha', { ...good, sha: 1 }, /not a full commit id/],
    ['a bad branch', { ...good, branch: 'x..y' }, /not a valid branch/],
    ['a text as flag', { ...good, cache: 'no' }, /cache must be true or false/],
    ['a contradiction', { ...good, cache: true, NoCache: true }, /contradict/],
    ['malformed JSON', '{"repository": ', /not valid JSON/],
    ['nothing', '', /body is empty/],
    ['a list', '[]', /not a JSON object/],
    ['null', 'null', /not a JSON object/],
  ])('answers 400 to %s', async (_name, body, reason) => {
    const { status, json } = await post(body)
    expect(status).toBe(400)
    expect(json).toMatchObject({ id: 'invalid', message: expect.stringMatching(reason) })
    expect(await server.store.unfinished()).toEqual([])
  })

  it('lists what is accepted', async () => {
    const { json } = await post({ ...good, ref: 'main' })
    expect(json.hint).toMatch(/`repository`.*`sha`.*`branch`.*`cache`.*`NoCache`/)
  })

  it('answers 404, 502 and 503 with what GitHub said', async () => {
    server.github.setHead('acme/app', 'main', sha('b'))
    const absent = await post({ repository: 'acme/app', branch: 'nope' })
    expect([absent.status, absent.json.id]).toEqual([404, 'not_found'])
    expect(absent.json.message).toContain('nope')
    server.github.failNext(1, 401)
    const refused = await post({ repository: 'acme/app', branch: 'main' })
    expect([refused.status, refused.json.id]).toEqual([502, 'bad_gateway'])
    server.github.failAlways(500)
    const down = await post({ repository: 'acme/app', branch: 'main' })
    expect([down.status, down.json.id]).toEqual([503, 'unavailable'])
  })

  it('answers 403 with the reason for a repository that is not allowed', async () => {
    await using closed = await startTestServer({ isAllowed: repositoryFilter(['acme/web']) })
    const order = async (repository: string) => {
      const body = JSON.stringify({ repository, sha: sha('a') })
      const answer = await fetch(`${closed.url}/builds`, { method: 'POST', body, headers: JSON_ONLY })
      return { status: answer.status, json: await answer.json() }
    }
    expect(await order('acme/app')).toEqual({
      status: 403,
      json: {
        id: 'forbidden',
        message: 'acme/app is not allowed on this server; --allow (ALLOW) lists the repositories that are',
      },
    })
    expect(await closed.store.unfinished()).toEqual([])
    expect((await order('acme/web')).status).toBe(201)
  })

  it.each(['-x', '@', '--upload-pack=x', '@x', 'a@b', 'HEAD'])(
    'accepts the branch %j, as git does',
    async (branch) => {
      await run('git', ['check-ref-format', `refs/heads/${branch}`])
      server.github.setHead('acme/app', branch, good.sha)
      expect(await post({ ...good, branch })).toMatchObject({ status: 201, json: { branch } })
      server.github.setHead('acme/app', branch, sha('b'))
      expect(await post({ repository: 'acme/app', branch })).toMatchObject({
        status: 201,
        json: { sha: sha('b') },
      })
      expect(server.github.violations).toEqual([])
    },
  )

  it('answers 413 to a large body, and 403 to a page of another site', async () => {
    const large = await post({ ...good, branch: 'x'.repeat(70_000) })
    expect([large.status, large.json.id]).toEqual([413, 'too_large'])
    const forged = await post(good, { ...JSON_ONLY, 'sec-fetch-site': 'cross-site' })
    expect([forged.status, forged.json.id]).toEqual([403, 'forbidden'])
    expect(await server.store.unfinished()).toEqual([])
  })
})

describe('GET /builds and /artifacts', () => {
  it('finds a build by id and by commit, even with an encoded slash', async () => {
    const old = await server.begin(sha('a'))
    await server.fail(old, 'no Dockerfile')
    const build = await server.begin(sha('a'), 'main')
    expect((await get(`/builds/${old.id}`)).json()).toMatchObject({
      id: old.id,
      state: 'failed',
      error: 'no Dockerfile',
      error_kind: 'build_failed',
      completed_at: expect.any(String),
    })
    for (const key of [build.id, `acme/app@${sha('a')}`, `acme%2Fapp%40${sha('A')}`]) {
      const found = await get(`/builds/${key}`)
      expect(found.status).toBe(200)
      expect(found.json()).toMatchObject({ id: build.id, state: 'building', image: null })
    }
  })

  it('finds an artifact by id and by commit', async () => {
    const build = await server.begin(sha('a'), 'main')
    await server.succeed(build)
    const { id } = (await get(`/artifacts/acme/app@${sha('a')}`)).json()
    for (const key of [id, `acme/app@${sha('a')}`, `acme%2fapp@${sha('a')}`]) {
      expect((await get(`/artifacts/${key}`)).json()).toEqual({
        id,
        image: IMAGE,
        shas: [sha('a')],
        tags: [`registry.example/acme/app:${sha('a')}`],
        build: { id: build.id },
      })
    }
    expect((await get(`/builds/${build.id}`)).json()).toMatchObject({ state: 'succeeded', image: IMAGE })
  })

  it.each([
    ['/builds/nope', 404, 'not_found'],
    [`/builds/acme/app@${sha('f')}`, 404, 'not_found'],
    ['/builds/acme/app@main', 400, 'invalid'],
    ['/builds/acme/app', 404, 'not_found'],
    ['/artifacts/nope', 404, 'not_found'],
    [`/artifacts/acme/app@${sha('f')}`, 404, 'not_found'],
    ['/logs/nope', 404, 'not_found'],
    ['/builds/nope/events', 404, 'not_found'],
    ['/nothing/here/at/all', 404, 'not_found'],
    ['/%zz', 400, 'invalid'],
    [`/builds/${'x'.repeat(600)}`, 414, 'invalid'],
  ])('answers %s with %d %s', async (path, status, id) => {
    const answer = await get(path)
    expect(answer.status).toBe(status)
    expect(answer.json()).toEqual(expect.objectContaining({ id, message: expect.any(String) }))
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
  })

  it('answers other methods with 405 and the allowed one', async () => {
    for (const [method, path, allow] of [
      ['DELETE', '/builds', 'GET, HEAD, POST'],
      ['DELETE', '/builds/1', 'GET, HEAD'],
      ['POST', '/logs/1', 'GET'],
      ['HEAD', '/logs/1', 'GET'],
    ] as const) {
      const answer = await fetch(`${server.url}${path}`, { method })
      expect([method, path, answer.status, answer.headers.get('allow')]).toEqual([method, path, 405, allow])
    }
  })

  it('hides unexpected errors, and logs them', async () => {
    const store = { ...server.store, get: () => Promise.reject(new Error('password=hunter2 is wrong')) }
    await using broken = await startTestServer({ store })
    const answer = await fetch(`${broken.url}/builds/1`)
    expect(answer.status).toBe(500)
    expect(await answer.text()).not.toContain('hunter2')
    expect(broken.lines.join()).toContain('GET /builds/:key: Error: password=hunter2')
  })
})

describe('the server', () => {
  it('reports its version and that it is healthy', async () => {
    const welcome = await get('/')
    expect(welcome.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(welcome.text).toContain(`POST ${server.url}/builds`)
    const health = await get('/healthz')
    expect(health.json()).toEqual({ status: 'ok', version: '1.2.3' })
    expect(health.headers.get('x-powered-by')).toBeNull()
    expect((await fetch(`${server.url}/healthz`, { method: 'HEAD' })).status).toBe(200)
  })

  it('reports whether builds work, and which component does not', async () => {
    expect((await get('/readyz')).json()).toEqual({ status: 'ok' })
    const parts = { store: 'ok', engine: 'unavailable' } as const
    await using broken = await startTestServer({ ready: async () => ({ ready: false, parts }) })
    const answer = await fetch(`${broken.url}/readyz`)
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({ status: 'unavailable', ...parts })
    expect((await fetch(`${broken.url}/healthz`)).status).toBe(200)
  })

  it('requires a password everywhere except for webhooks and health checks', async () => {
    const start = () => startTestServer({ auth: { username: 'Ünal', password: 'a:b' } })
    await using locked = await start()
    const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`
    const status = async (path: string, authorization?: string, method = 'GET', to = locked) => {
      const headers = authorization === undefined ? {} : { authorization }
      const answer = await fetch(to.url + path, { method, headers })
      if (answer.status === 401) {
        expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/)
        expect(await answer.json()).toMatchObject({ id: 'unauthorized' })
      }
      return answer.status
    }
    const closed = ['/', '/builds/1', '/builds/1/events', '/artifacts/1', '/logs/1', '/nothing', '/builds']
    for (const path of closed) expect([path, await status(path)]).toEqual([path, 401])
    expect(await status('/builds', undefined, 'POST')).toBe(401)
    expect(await status('/healthz')).toBe(200)
    expect(await status('/readyz')).toBe(200)
    expect(await status('/webhooks/github', undefined, 'POST')).toBe(400)

    expect(await status('/', basic('Ünal:a:b'))).toBe(200)
    expect(await status('/builds/1', basic('Ünal:a:b'))).toBe(404)
    const wrong = ['Ünal:a', 'Ünal:a:b:', 'ünal:a:b', ':a:b', 'Ünal:', 'Ünal', ':', '']
    for (const pair of wrong) expect([pair, await status('/', basic(pair))]).toEqual([pair, 401])
    // After ten failures within a minute, the first server would refuse to check.
    await using other = await start()
    for (const header of ['Basic', 'Bearer x', 'Basic !!', basic('Ünal:a:b').slice(6)]) {
      expect([header, await status('/', header, 'GET', other)]).toEqual([header, 401])
    }
  })
})
