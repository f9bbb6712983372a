import { createHmac, randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { repositoryFilter } from '../../src/lib/core/allowed-repositories.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { type PushFacts, pushPayload, sendPush, sendWebhook } from '../support/github/push.ts'
import { sha, startTestServer, type TestServer } from '../support/test-server.ts'

const SECRET = 'hush'
const PUSH = { repository: 'acme/app', ref: 'refs/heads/main', sha: sha('a'), secret: SECRET }

describe('webhooks', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer({ githubSecret: SECRET, auth: { username: 'u', password: 'p' } })
  })
  afterEach(() => server[Symbol.asyncDispose]())

  /** A delivery with exactly these bytes and headers. */
  async function post(body: string | Uint8Array, headers: Record<string, string> = {}, path = '/') {
    const answer = await fetch(server.url + path, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/json',
        'x-github-event': 'push',
        'x-github-delivery': randomUUID(),
        'x-hub-signature-256': sign(body),
        ...headers,
      },
    })
    return { status: answer.status, body: JSON.parse(await answer.text()), headers: answer.headers }
  }
  const sign = (body: string | Uint8Array, secret = SECRET) =>
    `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`

  it.each(['/', '/webhooks/github', '/some/old/path?x=1', '/builds', '/%zz'])(
    'accepts a push on %s, stores it and queues it, without a password',
    async (path) => {
      const answer = await sendPush({ ...PUSH, url: server.url + path })
      const body = JSON.parse(answer.body)
      expect(answer.status).toBe(202)
      expect(body).toEqual({
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        url: `${server.url}/builds/${body.id}`,
        log: `${server.url}/logs/${body.id}`,
        outcome: 'created',
      })
      expect(await server.store.get(body.id)).toMatchObject({
        repository: 'acme/app',
        sha: sha('a'),
        state: 'pending',
        cache: true,
        refs: [{ kind: 'branch', name: 'main' }],
      })
      const job = await server.queue.receive(AbortSignal.timeout(5_000))
      expect(job?.buildId).toBe(body.id)
    },
  )

  it('accepts a form, and a push that disables the cache', async () => {
    const message = 'Start afresh\n\n[docker nocache]'
    const answer = await sendPush({ ...PUSH, url: server.url, message, contentType: 'form' })
    expect(answer.status).toBe(202)
    expect(await server.store.get(JSON.parse(answer.body).id)).toMatchObject({ cache: false })
  })

  it('answers a redelivery with the same build, even if it has ended, and does not queue it again', async () => {
    const delivery = randomUUID()
    const first = JSON.parse((await sendPush({ ...PUSH, url: server.url, delivery })).body)
    const job = await server.queue.receive(AbortSignal.timeout(5_000))
    const build = await server.store.claim(first.id)
    if (!build) throw new Error('not claimed')
    await server.succeed(build)
    await job?.acknowledge()

    const again = await sendPush({ ...PUSH, url: server.url, delivery })
    expect(again.status).toBe(202)
    expect(JSON.parse(again.body)).toMatchObject({ id: first.id, outcome: 'redelivered' })
    expect(await server.queue.receive(AbortSignal.timeout(50))).toBeNull()
  })

  it('joins the running build of the same commit', async () => {
    const first = JSON.parse((await sendPush({ ...PUSH, url: server.url })).body)
    const second = await sendPush({ ...PUSH, url: server.url, ref: 'refs/heads/other' })
    expect(second.status).toBe(202)
    expect(JSON.parse(second.body)).toMatchObject({ id: first.id, outcome: 'joined' })
    expect((await server.store.get(first.id))?.refs.map((ref) => ref.name)).toEqual(['main', 'other'])
  })

  it.each([
    ['a ping', 'ping', { zen: 'Keep it logically awesome.' }, /pong/],
    ['another event', 'issues', { action: 'opened' }, /builds nothing/],
  ])('ignores %s with a reason', async (_name, event, payload, reason) => {
    const answer = await sendWebhook({ url: server.url, secret: SECRET, event, payload })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.body)).toEqual({ ignored: expect.stringMatching(reason) })
  })

  it.each([
    ['a fork', { fork: true }, /fork/],
    ['a deleted branch', { deleted: true }, /deleted/],
    ['a note', { ref: 'refs/notes/commits' }, /neither a branch nor a tag/],
  ])('ignores a push to %s with a reason', async (_name, facts, reason) => {
    const answer = await sendPush({ ...PUSH, ...facts, url: server.url })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.body).ignored).toMatch(reason)
    expect(await server.store.unfinished()).toEqual([])
  })

  it('verifies the bytes as received, whatever their whitespace and characters', async () => {
    const payload = await pushPayload({ ...PUSH, message: 'Zürich 🏗 \u2028 e\u0301' })
    const spaced = `\n\t ${JSON.stringify(payload, null, '\t').replaceAll('": ', '" :\r\n')} \n`
    expect((await post(spaced)).status).toBe(202)
    const changed = await post(spaced.trim(), { 'x-hub-signature-256': sign(spaced) })
    expect(changed.status).toBe(401)
  })

  it.each([
    ['no signature', { 'x-hub-signature-256': undefined }, /not signed: it has no X-Hub-Signature-256/],
    [
      'SHA-1 alone',
      { 'x-hub-signature-256': undefined, 'x-hub-signature': `sha1=${'0'.repeat(40)}` },
      /only with SHA-1/,
    ],
    ['another secret', { 'x-hub-signature-256': sign('{}', 'guess') }, /does not match/],
    ['a mangled signature', { 'x-hub-signature-256': 'sha256=zz' }, /does not match/],
    ['an empty one', { 'x-hub-signature-256': '' }, /does not match/],
  ])('refuses %s', async (_name, headers, reason) => {
    const answer = await fetch(server.url, {
      method: 'POST',
      body: '{}',
      headers: Object.entries({
        'content-type': 'application/json',
        'x-github-event': 'push',
        'x-github-delivery': randomUUID(),
        ...headers,
      }).filter((pair): pair is [string, string] => pair[1] !== undefined),
    })
    expect(answer.status).toBe(401)
    expect(await answer.json()).toEqual({
      id: 'unauthorized',
      message: expect.stringMatching(reason),
      hint: expect.stringMatching(/GITHUB_SECRET/),
    })
  })

  it.each([
    ['malformed JSON', '{"ref": ', {}, /not JSON/],
    ['an empty object', '{}', {}, /ref is missing/],
    ['an array', '[]', {}, /not an object/],
    ['another content type', '{}', { 'content-type': 'text/xml' }, /content type/],
    ['no real content type', '{}', { 'content-type': '???' }, /Media Type/i],
    ['bytes that are no text', new Uint8Array([0x22, 0xff, 0x22]), {}, /./],
    ['no delivery id', '{}', { 'x-github-delivery': '' }, /x-github-delivery header is missing/],
    ['an odd delivery id', '{}', { 'x-github-delivery': 'a b' }, /x-github-delivery header is malformed/],
  ])('answers 400 to %s', async (_name, body, headers, reason) => {
    const answer = await post(body, headers)
    expect(answer.status).toBe(400)
    expect(answer.body.message).toMatch(reason)
    expect(await server.store.unfinished()).toEqual([])
  })

  it('answers 400 to a POST without an event', async () => {
    const answer = await fetch(`${server.url}/webhooks/github`, {
      method: 'POST',
      body: '{}',
      headers: { 'x-hub-signature-256': sign('{}') },
    })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({ message: 'the x-github-event header is missing' })
  })

  it('accepts a payload of 20 MB, and answers 413 to one of 26 MB', async () => {
    // GitHub repeats the message of the head commit in the list of commits.
    const payload = await pushPayload({ ...PUSH, message: 'é'.repeat(5_000_000) })
    expect((await post(JSON.stringify(payload))).status).toBe(202)
    const huge = await post(Buffer.alloc(26 * 1024 * 1024 + 1, 0x20))
    expect(huge.status).toBe(413)
    expect(huge.body).toMatchObject({ id: 'too_large' })
  })

  it('accepts a build when the queue is unavailable: it is stored, and queued later', async () => {
    await server.queue.close()
    const unqueued = await sendPush({ ...PUSH, url: server.url })
    expect(unqueued.status).toBe(202)
    expect((await server.store.unqueued(0)).map((build) => build.sha)).toEqual([sha('a')])
    expect(server.lines.join()).toContain('was accepted but could not be queued yet; retrying')
  })

  it('answers 503 when the store is unavailable, without the reason', async () => {
    const broken = await startTestServer({
      githubSecret: SECRET,
      store: { ...server.store, accept: () => Promise.reject(new Error('disk on fire at /var/secret')) },
    })
    const unstored = await sendPush({ ...PUSH, url: broken.url })
    await broken[Symbol.asyncDispose]()
    expect(unstored.status).toBe(503)
    expect(JSON.parse(unstored.body)).toEqual({
      id: 'unavailable',
      message: 'The build could not be accepted',
      hint: 'Redeliver it from GitHub',
    })
    expect(broken.lines.join()).toContain('disk on fire')
  })

  it('passes on store errors by kind, instead of blaming the payload', async () => {
    const store = { ...server.store, accept: () => Promise.reject(new ConveyorError('not_found', 'gone')) }
    const broken = await startTestServer({ store, githubSecret: SECRET })
    const answer = await sendPush({ ...PUSH, url: broken.url })
    await broken[Symbol.asyncDispose]()
    expect(answer.status).toBe(503)
  })
})

describe('webhooks without a secret', () => {
  const { secret: _, ...push } = PUSH
  /** An unsigned webhook; resolves to the build that was created for it. */
  const hint = async (server: TestServer, facts: Partial<PushFacts> = {}) => {
    const { status, body } = await sendPush({ ...push, ...facts, url: server.url })
    const json = JSON.parse(body) as { id: string; ignored?: string }
    return { status, json, build: status === 202 ? await server.store.get(json.id) : undefined }
  }

  it('are only hints: the head of the branch on the forge is built', async () => {
    await using server = await startTestServer()
    server.github.setHead('acme/app', 'main', sha('b'))
    const { build } = await hint(server, {
      ...{ defaultBranch: 'feature/x', tree: sha('e'), message: 'x [docker nocache]' },
    })
    expect(build).toMatchObject({
      ...{ repository: 'acme/app', sha: sha('b'), defaultBranch: 'main', tree: null, cache: true },
      refs: [{ kind: 'branch', name: 'main' }],
    })

    server.github.setHead('acme/app', 'main', sha('a'))
    const said = await hint(server, { message: 'x [docker nocache]' })
    expect(said.build).toMatchObject({ sha: sha('a'), cache: false })
    await server.succeed((await server.store.claim(said.json.id)) as Build)
    const again = await hint(server, { message: 'x [docker nocache]' })
    expect(again.build, 'anyone can send it again and again').toMatchObject({ sha: sha('a'), cache: true })
    expect(server.github.violations).toEqual([])
  })

  it.each([
    ['a missing branch', { ref: 'refs/heads/gone' }, /^the push is unsigned .* has no branch "gone"/],
    [
      'a missing repository',
      { repository: 'acme/gone' },
      /^the push is unsigned and could not be verified: .* 404/,
    ],
    ['a git tag', { ref: 'refs/tags/v1' }, /^unsigned pushes are accepted only for branches/],
  ])('build nothing for %s, and report why', async (_name, facts, reason) => {
    await using server = await startTestServer()
    server.github.setHead('acme/app', 'main', sha('a'))
    const { status, json } = await hint(server, facts)
    expect([status, json.ignored]).toEqual([200, expect.stringMatching(reason)])
    expect(await server.store.unfinished()).toEqual([])
  })

  it('get a 503 when the forge is unreachable, and build nothing', async () => {
    await using server = await startTestServer()
    server.github.failAlways(502)
    expect((await hint(server)).status).toBe(503)
    expect(await server.store.unfinished()).toEqual([])
  })
})

describe('webhooks of repositories that are not allowed', () => {
  it('get a 200 with the reason', async () => {
    await using server = await startTestServer({
      githubSecret: SECRET,
      isAllowed: repositoryFilter(['acme/web-*', 'other/*']),
    })
    const send = async (repository: string) => {
      const { status, body } = await sendPush({ ...PUSH, repository, url: server.url })
      return [status, (JSON.parse(body) as { ignored?: string }).ignored]
    }
    expect(await send('acme/app')).toEqual([
      200,
      'acme/app is not allowed on this server; --allow (ALLOW) lists the repositories that are',
    ])
    expect(await server.store.unfinished()).toEqual([])
    expect(await send('Acme/Web-shop')).toEqual([202, undefined])
  })
})
