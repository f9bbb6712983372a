import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { repositoryFilter } from '../../src/lib/core/allowed-repositories.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { IMAGE, sha, startTestServer, type TestServer } from '../support/test-server.ts'

/** POST /builds/ID/cancel and /builds/ID/retry. */

let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
afterEach(() => server[Symbol.asyncDispose]())

async function post(path: string, body?: string, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, {
    method: 'POST',
    ...(body !== undefined && { body }),
    headers,
    redirect: 'manual',
  })
  const content = await answer.text()
  return {
    status: answer.status,
    location: answer.headers.get('location'),
    text: content,
    json: () => JSON.parse(content),
  }
}

async function accepted(digit = 'a'): Promise<Build> {
  const { build } = await server.store.accept({
    repository: 'acme/app',
    sha: sha(digit),
    ref: { kind: 'branch', name: 'main' },
    defaultBranch: 'main',
    cache: true,
    source: { kind: 'api' },
  })
  return build
}

/** A stream of events, as far as it was read. */
class Events {
  readonly #pieces: AsyncIterator<Uint8Array>
  #text = ''

  constructor(body: ReadableStream<Uint8Array> | null) {
    if (!body) throw new Error('there is no body')
    this.#pieces = body[Symbol.asyncIterator]()
  }

  /** Reads on until there is this text. */
  async until(part: string): Promise<void> {
    while (!this.#text.includes(part)) {
      const { done, value } = await this.#pieces.next()
      if (done) throw new Error(`the stream ended without ${part}:\n${this.#text}`)
      this.#text += Buffer.from(value).toString()
    }
  }
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded', accept: 'text/html,*/*;q=0.8' }

describe('cancel', () => {
  it('ends a pending build: 200 with it, and its log ends', async () => {
    const { id } = await accepted()
    const { status, location, json } = await post(`/builds/${id}/cancel`)
    expect(status).toBe(200)
    expect(location).toBe(`${server.url}/builds/${id}`)
    expect(json()).toMatchObject({
      id,
      state: 'cancelled',
      error: expect.stringMatching(/^cancelled by \w+$/),
      error_kind: 'cancelled',
      cancel: { by: expect.stringMatching(/^\w+$/), at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) },
      started_at: null,
    })
    expect(await text(server.logs.read(id))).toBe(`${json().error}\n`)
    expect(server.lines.filter((line) => line.startsWith('api: '))).toEqual([
      `api: build ${id} of acme/app@aaaaaaa ${json().error}`,
    ])
  })

  it('of a building one is accepted: 202, and followers see who asked for it', async () => {
    const build = await server.begin(sha('a'))
    const { body } = await fetch(`${server.url}/builds/${build.id}/events`)
    const events = new Events(body)
    const { status, json } = await post(`/builds/${build.id}/cancel`)
    expect(status).toBe(202)
    expect(json()).toMatchObject({ state: 'building', cancel: { by: expect.any(String) }, error: null })
    expect((await post(`/builds/${build.id}/cancel`)).status).toBe(202)
    await events.until('"state":"building","error":null,"error_kind":null,"cancel":{"by":')
    const error = `cancelled by ${json().cancel.by}`
    await server.store.finish(build.id, 1, 0, { state: 'cancelled', error, errorKind: 'cancelled' })
    await server.endLog(build)
    await events.until(
      `event: end\ndata: {"state":"cancelled","image":null,"error":"${error}","error_kind":"cancelled"}`,
    )
  })

  it('of the newest build of a commit, with the slash as it is or encoded', async () => {
    await accepted('a')
    await accepted('b')
    expect((await post(`/builds/acme/app@${sha('a')}/cancel`)).json()).toMatchObject({
      sha: sha('a'),
      state: 'cancelled',
    })
    expect((await post(`/builds/acme%2Fapp@${sha('b')}/cancel`)).json()).toMatchObject({
      sha: sha('b'),
      state: 'cancelled',
    })
  })

  it('of one that has ended is a conflict, with its state', async () => {
    const build = await server.begin(sha('a'))
    await server.succeed(build)
    const { status, json } = await post(`/builds/${build.id}/cancel`)
    expect(status).toBe(409)
    expect(json()).toEqual({
      id: 'conflict',
      message: `build ${build.id} of acme/app@aaaaaaa cannot be cancelled: it has already ended (succeeded)`,
    })
  })

  it('of one that moves its tags is a conflict, too', async () => {
    const build = await server.begin(sha('a'))
    await server.store.beginPublish(build.id, 1)
    const { status, json } = await post(`/builds/${build.id}/cancel`)
    expect([status, json().id]).toEqual([409, 'conflict'])
    expect(json().message).toMatch(/its tags are being moved/)
  })

  it('of one that does not exist is not found', async () => {
    expect((await post('/builds/nope/cancel')).status).toBe(404)
    expect((await post(`/builds/acme/app@${sha('c')}/cancel`)).status).toBe(404)
  })

  it('by the form of a page leads back to the page', async () => {
    const { id } = await accepted()
    const { status, location, text: body } = await post(`/builds/${id}/cancel`, '', FORM)
    expect([status, location, body]).toEqual([303, `/builds/${id}`, ''])
    const again = await post(`/builds/${id}/cancel`, '', FORM)
    expect(again.status).toBe(409)
    expect(again.text).toMatch(/^<!doctype html>/i)
    expect(again.text).toContain('already ended (cancelled)')
  })

  it('by a page of another site is refused', async () => {
    const { id } = await accepted()
    const answer = await post(`/builds/${id}/cancel`, '', { ...FORM, origin: 'https://evil.example.com' })
    expect(answer.status).toBe(403)
    expect((await server.store.get(id))?.state).toBe('pending')
  })

  it('needs POST', async () => {
    const { id } = await accepted()
    const answer = await fetch(`${server.url}/builds/${id}/cancel`)
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST'])
    expect((await server.store.get(id))?.state).toBe('pending')
  })
})

describe('retry', () => {
  async function failed(digit = 'a'): Promise<Build> {
    const { id } = await accepted(digit)
    const build = await server.store.claim(id)
    if (!build) throw new Error('it cannot be claimed')
    await server.fail(build, 'no')
    return build
  }

  it('makes a new build of the same commit and refs: 201 with it', async () => {
    const before = await failed()
    const { status, location, json } = await post(`/builds/${before.id}/retry`)
    expect(status).toBe(201)
    expect(json()).toMatchObject({ repository: 'acme/app', sha: sha('a'), branch: 'main', state: 'pending' })
    expect(json().id).not.toBe(before.id)
    expect(location).toBe(`${server.url}/builds/${json().id}`)
    const job = await server.queue.receive(AbortSignal.timeout(1000))
    expect(job?.buildId).toBe(json().id)
  })

  it.each([
    ['nothing', undefined, true],
    ['an empty object', '{}', true],
    ['null', '{"cache": null}', true],
    ['without the cache, in JSON', '{"cache": false}', false],
    ['without the cache, as a form', 'cache=false', false],
    ['with the cache, as a form', 'cache=true', true],
  ])('takes %s', async (_name, body, cache) => {
    const { id } = await failed()
    const { status, json } = await post(`/builds/${id}/retry`, body)
    expect(status).toBe(201)
    expect((await server.store.get(json().id))?.cache).toBe(cache)
  })

  it.each([
    ['{"cache": "no"}', 'cache must be true or false'],
    ['{"cache": 0}', 'cache must be true or false'],
    ['cache=no', 'cache must be true or false'],
    ['{"cash": false}', 'unknown key "cash"'],
    ['{"cache"', 'the body is not valid JSON'],
  ])('refuses %s', async (body, message) => {
    const { id } = await failed()
    const { status, json } = await post(`/builds/${id}/retry`, body)
    expect([status, json().message]).toEqual([400, message])
    expect(await server.store.unfinished()).toEqual([])
  })

  it('of a succeeded build, by commit, without the cache', async () => {
    const build = await server.begin(sha('a'), 'main')
    await server.succeed(build)
    const { status, json } = await post(`/builds/acme/app@${sha('a')}/retry`, '{"cache":false}')
    expect(status).toBe(201)
    expect(json()).toMatchObject({ state: 'pending', image: null })
    const earlier = (await (await fetch(`${server.url}/builds/${build.id}`)).json()) as BuildJson
    expect(earlier.image).toBe(IMAGE)
  })

  it('of a build that has not ended is a conflict that names the one to wait for', async () => {
    const before = await failed()
    const running = (await post(`/builds/${before.id}/retry`)).json().id as string
    for (const id of [before.id, running]) {
      const { status, json } = await post(`/builds/${id}/retry`)
      expect([status, json().id]).toEqual([409, 'conflict'])
      expect(json().message).toContain(running)
      expect(json().hint).toBe(`Wait for build ${running}, or cancel it first`)
    }
  })

  it('of a repository that is no longer built is forbidden', async () => {
    await using strict = await startTestServer({ isAllowed: repositoryFilter(['acme/other']) })
    const build = await strict.begin(sha('a'))
    await strict.fail(build, 'no')
    const answer = await fetch(`${strict.url}/builds/${build.id}/retry`, { method: 'POST' })
    expect(answer.status).toBe(403)
  })

  it('by the form of a page leads to the page of the new build', async () => {
    const { id } = await failed()
    const { status, location } = await post(`/builds/${id}/retry`, 'cache=false', FORM)
    const [build] = await server.store.unfinished()
    expect([status, location]).toEqual([303, `/builds/${build?.id}`])
    expect(build?.cache).toBe(false)
  })
})
