import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { repositoryFilter } from '../../src/lib/core/allowed-repositories.ts'
import type { ServerOptions } from '../../src/lib/server/server.ts'
import { commentEvent, type MadeEvent, mergeGroupEvent, pullEvent } from '../support/github/pull-events.ts'
import type { TestPull } from '../support/github/pulls.ts'
import { sendPush, sendWebhook } from '../support/github/push.ts'
import { sha, startTestServer, type TestServer } from '../support/test-server.ts'

/** What the server does with events of pull requests and merge queues, and with requests to build them. */

const SECRET = 'hush'
const LOGIN = { authorization: `Basic ${btoa('u:p')}` }
const PULL: TestPull = { repository: 'acme/app', number: 7, sha: sha('a'), title: 'Greet <b>people</b>' }
const FORK: TestPull = { ...PULL, fork: 'mallory/app' }

let server: TestServer
const open = async (options: Partial<ServerOptions> = {}) => {
  await server?.[Symbol.asyncDispose]()
  server = await startTestServer({
    ...{ githubSecret: SECRET, auth: { username: 'u', password: 'p' } },
    ...options,
  })
  server.github.pulls.permit('acme/app', 'ada', 'write')
}
beforeEach(() => open())
afterEach(async () => {
  const { violations } = server.github
  await server[Symbol.asyncDispose]()
  server = undefined as unknown as TestServer
  expect(violations).toEqual([])
})

async function send({ event, payload }: MadeEvent, secret: string | undefined = SECRET) {
  const answer = await sendWebhook({ url: server.url, ...(secret && { secret }), event, payload })
  return { status: answer.status, ...(JSON.parse(answer.body) as Record<string, string>) } as {
    status: number
    id?: string
    ignored?: string
    done?: string
    outcome?: string
    message?: string
  }
}

async function ignoredDeliveries(): Promise<{ event: string; ref: string | null; reason: string }[]> {
  const answer = await fetch(`${server.url}/deliveries`, {
    headers: { ...LOGIN, accept: 'application/json' },
  })
  return ((await answer.json()) as { deliveries: { event: string; ref: string | null; reason: string }[] })
    .deliveries
}

function order(body: object, headers: Record<string, string> = {}) {
  return fetch(`${server.url}/builds`, {
    method: 'POST',
    redirect: 'manual',
    headers: { ...LOGIN, accept: 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

describe('a pull request of the repository', () => {
  it('joins the build of the push of its head, in either order', async () => {
    const pushed = await sendPush({
      ...{ url: server.url, secret: SECRET, repository: 'acme/app', ref: 'refs/heads/topic', sha: sha('a') },
    })
    const { id, outcome } = await send(await pullEvent('opened', PULL))
    expect([id, outcome]).toEqual([(JSON.parse(pushed.body) as { id: string }).id, 'joined'])
    expect((await server.store.get(id ?? ''))?.refs.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'branch topic',
      'pull 7',
    ])

    const first = await send(
      await pullEvent('synchronize', { ...PULL, sha: sha('b'), updatedAt: 1_800_000_001 }),
    )
    expect(first.outcome).toBe('created')
    const build = await server.store.get(first.id ?? '')
    // Only pushes move `latest`.
    expect(build).toMatchObject({ pushOrder: 0, refs: [{ kind: 'pull', name: '7' }] })
  })

  it('whose build has failed is not built again, but tagged when that is retried', async () => {
    const build = await server.begin(sha('a'), 'topic')
    await server.fail(build, 'no')
    const { ignored } = await send(await pullEvent('opened', PULL))
    expect(ignored).toBe(
      'the build of aaaaaaa failed: when it is retried, its image gets the tag of pull request #7',
    )
    const retry = await fetch(`${server.url}/builds/${build.id}/retry`, { method: 'POST', headers: LOGIN })
    const { id } = (await retry.json()) as { id: string }
    expect((await server.store.get(id))?.refs.map(({ kind }) => kind)).toEqual(['branch', 'pull'])
  })

  it('whose branch is pushed back to a commit that failed is tagged by the build of the push', async () => {
    const pushed = async (commit: string) => {
      const facts = { repository: 'acme/app', ref: 'refs/heads/topic', sha: sha(commit) }
      const { body } = await sendPush({ url: server.url, secret: SECRET, ...facts })
      return (await server.store.get((JSON.parse(body) as { id: string }).id))?.refs
    }
    const failing = await server.begin(sha('a'), 'topic')
    await send(await pullEvent('opened', PULL))
    await server.fail(failing, 'no')
    const moved = await send(
      await pullEvent('synchronize', { ...PULL, sha: sha('b'), updatedAt: 1_800_000_001 }),
    )
    const back = await pullEvent('synchronize', { ...PULL, updatedAt: 1_800_000_002 })
    expect((await send(back)).ignored).toContain('failed')
    const refs = await pushed('a')
    expect(refs?.map(({ kind, name }) => `${kind} ${name}`)).toEqual(['branch topic', 'pull 7'])
    const other = (await server.store.get(moved.id ?? ''))?.refs.at(-1)?.sequence ?? Number.POSITIVE_INFINITY
    expect(refs?.at(-1)?.sequence).toBeGreaterThan(other)
    // Not those of other commits.
    expect(await pushed('c')).toHaveLength(1)
  })

  it('is remembered until it is closed, and a redelivery changes nothing', async () => {
    let closed = 0
    await open({ onPullClosed: () => void closed++ })
    const opened = await pullEvent('opened', PULL)
    const { id } = await send(opened)
    expect(await send(opened)).toMatchObject({ id, outcome: 'redelivered' })
    expect(await server.store.pulls.open('acme/app', 5)).toHaveLength(1)
    await send(await pullEvent('closed', { ...PULL, updatedAt: 1_800_000_005 }))
    expect(closed).toBe(1)
    expect(await server.store.pulls.open('acme/app', 5)).toEqual([])
    expect((await send(await pullEvent('synchronize', PULL))).ignored).toContain('a later state')
  })

  it.each([
    ['unsigned', {}, undefined, /unsigned/],
    ['switched off', { pulls: false }, SECRET, /--pulls/],
    ['not of an allowed repository', { isAllowed: repositoryFilter(['other/*']) }, SECRET, /allow/],
  ])('is ignored if it is %s', async (_, options, secret, reason) => {
    await open(secret === undefined ? { ...options, githubSecret: null } : options)
    for (const event of [
      await pullEvent('opened', PULL),
      await commentEvent({ repository: 'acme/app', number: 7, body: `/build ${sha('a')}`, login: 'ada' }),
    ]) {
      expect(await send(event, secret ?? '')).toMatchObject({
        status: 200,
        ignored: expect.stringMatching(reason),
      })
    }
    expect(await server.store.unfinished()).toEqual([])
  })
})

describe('an approval', () => {
  const comment = (body: string, login = 'ada') =>
    commentEvent({ repository: 'acme/app', number: 7, body, login })

  it.each([
    ['the head in full', `/build ${sha('a')}`],
    ['seven digits', '/build aaaaaaa'],
    ['capitals', '/build AAAAAAA'],
    ['other lines', 'Nice!\r\n\r\n/build aaaaaaaa\r\n'],
  ])('is a comment with %s', async (_, body) => {
    server.github.pulls.set(FORK)
    const { status, id = '' } = await send(await comment(body))
    expect(status).toBe(202)
    expect(await server.store.get(id)).toMatchObject({
      sha: sha('a'),
      fork: { pull: 7, repository: 'mallory/app', approvedBy: 'ada' },
    })
  })

  it.each([
    ['another commit', '/build bbbbbbb', 'ada', /is not the head of pull request #7 .* at aaaaaaa/],
    ['somebody who may only read', '/build aaaaaaa', 'eve', /eve may not write/],
    ['somebody GitHub does not know', '/build aaaaaaa', 'nobody', /nobody may not write/],
    ['no commit', '/build', 'ada', /seven digits/],
    ['six digits', '/build aaaaaa', 'ada', /seven digits/],
    ['a branch', '/build main', 'ada', /seven digits/],
  ])('is none with %s', async (_, body, login, reason) => {
    server.github.pulls.set(FORK)
    server.github.pulls.permit('acme/app', 'eve', 'read')
    expect(await send(await comment(body, login))).toMatchObject({
      status: 200,
      ignored: expect.stringMatching(reason),
    })
    expect(await server.store.unfinished()).toEqual([])
    expect(await ignoredDeliveries()).toMatchObject([
      { event: 'issue_comment', ref: 'refs/pull/7/head', reason: expect.stringMatching(reason) },
    ])
  })

  it.each([
    ['a quoted command', '> /build aaaaaaa'],
    ['a word', 'please /build aaaaaaa'],
    ['a longer command', '/builds aaaaaaa'],
    ['nothing', ''],
  ])('is not meant by %s, which nobody wonders about', async (_, body) => {
    expect((await send(await comment(body))).ignored).toBe('the comment has no line /build SHA')
    expect(await ignoredDeliveries()).toEqual([])
  })

  it('is not an edited comment, nor one of an issue', async () => {
    const facts = { repository: 'acme/app', number: 7, body: '/build aaaaaaa', login: 'ada' }
    for (const more of [{ action: 'edited' as const }, { isIssue: true }])
      expect((await send(await commentEvent({ ...facts, ...more }))).ignored).toContain('not a new comment')
  })

  it('counts for the head that the pull request has when it is handled', async () => {
    server.github.pulls.set(FORK)
    const approved = await comment('/build aaaaaaa')
    server.github.pulls.set({ ...FORK, sha: sha('b') })
    expect((await send(approved)).ignored).toContain('which is at bbbbbbb')
    server.github.pulls.set({ ...FORK, state: 'closed' })
    expect((await send(approved)).ignored).toContain('is closed')
  })

  it('has to be the whole id if the pull request had another head that begins alike', async () => {
    const other = `${'a'.repeat(7)}${'b'.repeat(33)}`
    await send(await pullEvent('opened', { ...FORK, sha: other }))
    server.github.pulls.set(FORK)
    expect((await send(await comment('/build aaaaaaa'))).ignored).toMatch(
      new RegExp(`^aaaaaaa is short for several commits .* the head is ${sha('a')}`, 's'),
    )
    expect(await server.store.unfinished()).toEqual([])
    expect((await send(await comment(`/build ${sha('a')}`))).status).toBe(202)
  })

  it('is asked for again if GitHub does not answer', async () => {
    server.github.failNext(1, 502)
    expect((await send(await comment('/build aaaaaaa'))).status).toBe(503)
  })
})

describe('POST /builds with a pull request', () => {
  it('builds the commit of a fork as such, and not otherwise', async () => {
    server.github.pulls.set(FORK)
    await send(await pullEvent('opened', FORK))
    const own = await order({ repository: 'acme/app', sha: sha('a') })
    expect([own.status, ((await own.json()) as { hint: string }).hint]).toEqual([
      409,
      'Build it as such, without secrets: with "pull": 7, or --pull 7',
    ])
    const answer = await order({ repository: 'acme/app', sha: 'aaaaaaa', pull: 7 })
    expect([answer.status, await answer.json()]).toMatchObject([
      201,
      { fork: { pull: 7, repository: 'mallory/app', approved_by: 'u' }, sha: sha('a'), branch: null },
    ])
    // Once it is pushed to the repository, it is its own.
    await sendPush({
      ...{ url: server.url, secret: SECRET, repository: 'acme/app', ref: 'refs/heads/main', sha: sha('a') },
    })
    const pushed = (await (await order({ repository: 'acme/app', sha: sha('a') })).json()) as {
      fork?: object
    }
    expect(pushed.fork).toBeUndefined()
  })

  it.each([
    ['closed', async () => send(await pullEvent('closed', { ...FORK, updatedAt: 1_800_000_005 }))],
    [
      'at another commit',
      async () => send(await pullEvent('synchronize', { ...FORK, sha: sha('b'), updatedAt: 1_800_000_005 })),
    ],
  ])('builds no commit of a fork whose pull request is %s', async (_, change) => {
    await send(await pullEvent('opened', FORK))
    await change()
    const answer = await order({ repository: 'acme/app', sha: sha('a') })
    expect([answer.status, await answer.text()]).toEqual([
      409,
      expect.stringContaining('Push it to a branch of the repository'),
    ])
  })

  it('builds the commit of the repository as its own, for the pull request', async () => {
    server.github.pulls.set(PULL)
    const build = (await (await order({ repository: 'acme/app', sha: sha('a'), pull: 7 })).json()) as object
    expect(build).toMatchObject({ refs: [{ kind: 'pull', name: '7' }] })
    expect(build).not.toHaveProperty('fork')
  })

  it.each([
    [{ sha: 'aaaaaa', pull: 7 }, 400, 'at least seven'],
    [{ pull: 7 }, 400, 'both missing'],
    [{ branch: 'main', pull: 7 }, 400, 'exclude each other'],
    [{ sha: 'aaaaaaa', pull: 0 }, 400, 'number of a pull request'],
    [{ sha: 'aaaaaaa', pull: '7; x' }, 400, 'number of a pull request'],
    [{ sha: 'bbbbbbb', pull: 7 }, 409, 'is not the head'],
    [{ sha: 'aaaaaaa', pull: 8 }, 404, 'pull request #8'],
  ])('refuses %j', async (body, status, message) => {
    server.github.pulls.set(FORK)
    const answer = await order({ repository: 'acme/app', ...body })
    expect([answer.status, await answer.text()]).toEqual([status, expect.stringContaining(message)])
  })

  it('is a button on the page of the repository, for people who may build', async () => {
    server.github.pulls.set(FORK)
    await server.begin(sha('c'), 'main')
    await send(await pullEvent('opened', FORK))
    await send(await pullEvent('opened', { ...PULL, number: 8, sha: sha('b') }))
    const browser = { ...LOGIN, accept: 'text/html' }
    const page = await (await fetch(`${server.url}/repositories/acme/app`, { headers: browser })).text()
    expect(page).toContain('Greet &lt;b&gt;people&lt;/b&gt;')
    expect(page).toContain('from mallory/app: built only by an approval')
    expect(page.match(/<button[^>]*>Build /g)).toHaveLength(1)
    const [, form = ''] = /<form method="post" action="\/builds"[^>]*>(.*?)<\/form>/s.exec(page) ?? []
    const fields = [...form.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(([, name = '', value = '']) => [
      name,
      value,
    ])
    const sent = await fetch(`${server.url}/builds`, {
      method: 'POST',
      redirect: 'manual',
      headers: { ...browser, 'content-type': 'application/x-www-form-urlencoded', origin: server.url },
      body: new URLSearchParams(Object.fromEntries(fields)),
    })
    expect(sent.status).toBe(303)
    const id = sent.headers.get('location')?.replace('/builds/', '') ?? ''
    expect(await server.store.get(id)).toMatchObject({ sha: sha('a'), fork: { pull: 7, approvedBy: 'u' } })
    const shown = await (await fetch(`${server.url}/builds/${id}`, { headers: browser })).text()
    expect(shown).toContain('approved by <bdi>u</bdi>: without secrets')
    expect(shown).not.toContain('by a push')
    const after = await (await fetch(`${server.url}/repositories/acme/app`, { headers: browser })).text()
    expect(after).not.toContain('<button title="Without secrets')
    expect(after).toContain(`<a href="/builds/${id}"><bdi>Greet &lt;b&gt;people&lt;/b&gt;</bdi></a>`)

    const { pulls } = (await (
      await fetch(`${server.url}/repositories/acme/app`, {
        headers: { ...LOGIN, accept: 'application/json' },
      })
    ).json()) as { pulls: object[] }
    expect(pulls).toMatchObject([
      { number: 8, fork: false, sha: sha('b') },
      { number: 7, fork: true, repository: 'mallory/app', title: 'Greet <b>people</b>' },
    ])
  })
})

describe('a merge queue', () => {
  const GROUP = { repository: 'acme/app', sha: sha('a'), branch: 'gh-readonly-queue/main/pr-7-abc' }

  it('has its commit built, once for the event and the push of its branch', async () => {
    const { id = '', status } = await send(await mergeGroupEvent(GROUP))
    expect(status).toBe(202)
    expect(await server.store.get(id)).toMatchObject({
      refs: [{ kind: 'branch', name: GROUP.branch }],
      pushOrder: 0,
      commit: { title: 'Merge pull request #7' },
    })
    const ref = `refs/heads/${GROUP.branch}`
    const pushed = await sendPush({
      url: server.url,
      secret: SECRET,
      repository: 'acme/app',
      ref,
      sha: sha('a'),
    })
    expect(JSON.parse(pushed.body)).toMatchObject({ id, outcome: 'joined' })
  })

  it('is not waited for any more: the build is cancelled, unless it was merged', async () => {
    const { id = '' } = await send(await mergeGroupEvent(GROUP))
    expect((await send(await mergeGroupEvent({ ...GROUP, reason: 'merged' }))).ignored).toContain('merged')
    expect((await server.store.get(id))?.state).toBe('pending')
    expect((await send(await mergeGroupEvent({ ...GROUP, reason: 'invalidated' }))).done).toContain(id)
    expect((await server.store.get(id))?.state).toBe('cancelled')
    expect((await send(await mergeGroupEvent({ ...GROUP, reason: 'invalidated' }))).ignored).toContain(
      'nothing',
    )
  })

  it.each([
    ['has asked for it, too', async () => order({ repository: 'acme/app', sha: sha('a') }), 'pending'],
    ['has pushed it', async () => server.begin(sha('a'), 'main'), 'building'],
  ])('is not waited for any more, but the build goes on if somebody %s', async (_, want, state) => {
    const { id = '' } = await send(await mergeGroupEvent(GROUP))
    await want()
    expect((await send(await mergeGroupEvent({ ...GROUP, reason: 'dequeued' }))).ignored).toContain(
      'requested for something else',
    )
    expect((await server.store.get(id))?.state).toBe(state)
  })
})
