import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { NotificationJson, NotificationListJson } from '../../../src/lib/api/notification.ts'
import type { Build } from '../../../src/lib/core/build.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

/** The webhooks of a build, over the API and on its page. Responses are checked against /openapi.json. */

let server: TestServer
let build: Build
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server[Symbol.asyncDispose]())

let commits = 0
beforeEach(async () => {
  commits += 1
  build = await server.begin(sha(String(commits)))
  await server.succeed(build)
  const common = { origin: 'https://deploy.example.com', format: 'conveyor', tag: null } as const
  const hub = { ...common, target: `hub${commits}`, format: 'dockerhub', tag: '<main>' } as const
  await server.store.notifications.make(build.id, [{ ...common, target: `own${commits}` }, hub], 1)
})

async function get(path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, { headers })
  return { status: answer.status, text: await answer.text() }
}

async function post(path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, { method: 'POST', headers, redirect: 'manual' })
  return { status: answer.status, location: answer.headers.get('location'), text: await answer.text() }
}

async function listed(): Promise<NotificationJson[]> {
  const { text } = await get(`/builds/${build.id}/notifications`)
  return (JSON.parse(text) as NotificationListJson).notifications
}

/** The first one is tried, and fails. */
async function tryFirst(): Promise<void> {
  const claimed = await server.store.notifications.claim(`own${commits}`)
  if (!claimed) throw new Error('nothing is due')
  const result = { status: 500, answer: '<script>no</script>', error: 'HTTP 500', tookMs: 7 }
  await server.store.notifications.settle(claimed, result)
}

const page = async () => (await get(`/builds/${build.id}`, { accept: 'text/html' })).text

test('they are listed by build and by commit, without the URL', async () => {
  await tryFirst()
  const [own, hub] = await listed()
  expect(own).toMatchObject({
    ...{ build: build.id, origin: 'https://deploy.example.com', format: 'conveyor', tag: null },
    ...{ state: 'failed', attempts: 1, status: 500, error: 'HTTP 500', took_ms: 7, due_at: null },
  })
  expect(hub).toMatchObject({
    format: 'dockerhub',
    tag: '<main>',
    state: 'pending',
    attempts: 0,
    status: null,
  })
  const byCommit = await get(`/builds/acme/app@${build.sha}/notifications`)
  expect((JSON.parse(byCommit.text) as NotificationListJson).notifications).toEqual([own, hub])
  expect((await get(`/builds/${crypto.randomUUID()}/notifications`)).status).toBe(404)
})

test('one that has failed or was delivered can be sent again, one that is pending cannot', async () => {
  await tryFirst()
  const [own, hub] = await listed()
  const again = await post(`/notifications/${own?.id}/redeliver`)
  expect(again.status).toBe(202)
  expect(JSON.parse(again.text)).toMatchObject({ id: own?.id, state: 'pending', attempts: 1 })
  expect(await server.store.notifications.claim(`own${commits}`)).toMatchObject({ id: own?.id, triesLeft: 4 })
  expect((await post(`/notifications/${hub?.id}/redeliver`)).status).toBe(409)
  expect((await post(`/notifications/${crypto.randomUUID()}/redeliver`)).status).toBe(404)
  expect(server.lines.at(-1)).toMatch(/^api: webhook about acme\/app@\w+ to https:\S+ is sent again for \S+$/)
})

test('the page shows them with what became of them, escaped, and a button to send one again', async () => {
  await tryFirst()
  const before = await page()
  expect(before).toContain('<summary>Webhooks: 1 failed, 1 pending</summary>')
  expect(before).toContain('HTTP 500')
  expect(before).toContain('&lt;script&gt;no')
  expect(before).toContain('&lt;main&gt;')
  const [action, ...others] = [...before.matchAll(/action="(\/notifications\/\S+)"/g)].map(
    (found) => found[1],
  )
  expect(others).toEqual([])
  const answer = await post(action ?? '', { accept: 'text/html' })
  expect({ status: answer.status, location: answer.location }).toEqual({
    ...{ status: 303, location: `/builds/${build.id}` },
  })
  expect(await page()).toContain('<summary>Webhooks: 2 pending</summary>')
})

test('a page of a build without any does not mention them', async () => {
  build = await server.begin('e'.repeat(40))
  await server.succeed(build)
  expect(await page()).not.toContain('Webhook')
  expect(await listed()).toEqual([])
})
