import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import { checkEvent } from '../support/github/check-events.ts'
import { sendWebhook } from '../support/github/push.ts'
import { startTestServer, type TestServer } from '../support/test-server.ts'

const SECRET = 'a secret'
const SHA = 'c'.repeat(40)

let server: TestServer
let build: Build
beforeEach(async () => {
  server = await startTestServer({ githubSecret: SECRET, isAllowed: (name) => name !== 'acme/forbidden' })
  build = await server.begin(SHA)
})
afterEach(() => server[Symbol.asyncDispose]())

async function deliver(event: string, payload: unknown, delivery?: string) {
  const sent = {
    url: server.url,
    secret: SECRET,
    event,
    payload,
    ...(delivery !== undefined && { delivery }),
  }
  const { status, body } = await sendWebhook(sent)
  return {
    status,
    ...(JSON.parse(body) as { ignored?: string; done?: string; id?: string; detail?: string }),
  }
}

async function press(more: { button?: string; repository?: string; sha?: string; buildId?: string }) {
  const { repository, id } = build
  const { event, payload } = await checkEvent({ repository, sha: SHA, buildId: id, ...more })
  return deliver(event, payload)
}

test('a build that runs is not built again, and is cancelled by its button', async () => {
  expect((await press({})).ignored).toContain('has not ended: it is building')
  expect((await press({ button: 'cancel' })).done).toContain(`build ${build.id}`)
  expect((await server.store.get(build.id))?.cancel?.by).toBe('ada')
})

test('a button that no build has, and builds of other repositories and commits, lead to nothing', async () => {
  await server.succeed(build)
  const nothing = { status: 200, ignored: 'no build of this commit belongs to it' }
  expect(await press({ repository: 'acme/other' })).toEqual(nothing)
  expect(await press({ sha: 'd'.repeat(40) })).toEqual(nothing)
  expect(await press({ buildId: "no'id" })).toEqual(nothing)
  expect(await press({ buildId: 'x'.repeat(10_000) })).toEqual(nothing)
  expect(await press({ button: 'launch' })).toMatchObject({ ignored: 'the check run has no such button' })
  expect(await press({ repository: 'acme/forbidden' })).toMatchObject({
    status: 200,
    ignored: expect.any(String),
  })
  expect(await server.store.newest(build.repository, SHA)).toMatchObject({ id: build.id })
})

test('a re-run keeps the cache unless its button says otherwise, and builds once for each delivery', async () => {
  await server.succeed(build)
  const { event, payload } = await checkEvent({ repository: build.repository, sha: SHA, buildId: build.id })
  const answers = await Promise.all(
    ['one', 'one', 'one'].map((delivery) => deliver(event, payload, delivery)),
  )
  const ids = new Set(answers.map(({ id, ignored }) => id ?? ignored))
  const again = await server.store.newest(build.repository, SHA)
  expect(ids).toContain(again?.id)
  expect(await deliver(event, payload, 'one')).toMatchObject({ status: 202, id: again?.id })
  expect(again).toMatchObject({ cache: true, refs: build.refs.map(({ kind, name }) => ({ kind, name })) })
  if (!again) throw new Error('there is none')
  const claimed = (await server.store.claim(again.id)) as Build
  await server.succeed(claimed)
  const { id = '' } = await press({ button: 'build-without-cache' })
  expect(await server.store.get(id)).toMatchObject({ cache: false })
})

test('other events of checks are ignored, and malformed ones refused', async () => {
  const { event, payload } = await checkEvent({ repository: build.repository, sha: SHA, buildId: build.id })
  expect((await deliver(event, { ...payload, action: 'created' })).ignored).toContain('check run "created"')
  const run = payload.check_run as object
  const others = { ...payload, check_run: { ...run, external_id: '' } }
  expect((await deliver(event, others)).ignored).toBe('the check run belongs to no build')
  for (const check_run of [{ ...run, head_sha: 'main' }, { ...run, head_sha: 7 }, null, []]) {
    expect(await deliver(event, { ...payload, check_run })).toMatchObject({ status: 400 })
  }
})

test('without a secret nobody can press a button', async () => {
  await using open = await startTestServer({ githubSecret: null })
  const begun = await open.begin(SHA)
  const facts = { repository: begun.repository, sha: SHA, buildId: begun.id, button: 'cancel' }
  const { body } = await sendWebhook({ url: open.url, ...(await checkEvent(facts)) })
  expect(body).toContain('only if the webhook is signed')
  expect((await open.store.get(begun.id))?.cancel).toBeUndefined()
})
