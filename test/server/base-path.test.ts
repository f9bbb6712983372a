import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { requestOnly } from '../../src/lib/client/client.ts'
import { sha, startTestServer, type TestServer } from '../support/test-server.ts'

/** A server whose public URL has a path: `--url https://ci.example/tools/conveyor`. */

const BASE = 'https://ci.example/tools/conveyor'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer({ baseUrl: () => BASE, auth: 'none' })
})
afterAll(() => server[Symbol.asyncDispose]())

// As a proxy forwards it: with or without the path.
test.each(['/tools/conveyor', ''])('everything is served below "%s"', async (path) => {
  const url = `${server.url}${path}`
  const build = await requestOnly({ url, request: { repository: 'acme/app', sha: sha('a') } })
  expect(build.log).toBe(`${BASE}/logs/${build.id}`)
  const text = async (at: string) => (await fetch(`${url}${at}`)).text()
  expect(JSON.parse(await text(`/builds/${build.id}`))).toMatchObject({ id: build.id })
  expect(JSON.parse(await text(`/builds/acme/app@${sha('a')}`))).toMatchObject({ id: build.id })
  expect(JSON.parse(await text('/healthz'))).toMatchObject({ status: 'ok' })
  expect(await text('/')).toContain(`GET  ${BASE}/logs/{id}`)
  expect(await text('')).toContain(`GET  ${BASE}/logs/{id}`)
  expect(await text('?x=1')).toContain(`GET  ${BASE}/logs/{id}`)
  expect(await text(`/logs/${build.id}?follow=false`)).toBe('')
  const hook = await fetch(`${url}/webhooks/github`, {
    method: 'POST',
    body: '{"zen": "x"}',
    headers: {
      'x-github-event': 'ping',
      'x-github-delivery': randomUUID(),
      'content-type': 'application/json',
    },
  })
  expect(hook.status).toBe(200)
})

test.each(['/tools/conveyorx/healthz', '/tools', '/tools/conveyor/tools/conveyor/healthz'])(
  'no server at %s',
  async (path) => expect((await fetch(`${server.url}${path}`)).status).toBe(404),
)

test.each(['http://ci.example/?x', 'http://ci.example/#x', 'http://me:a#b@ci.example'])(
  'a client accepts no %s',
  async (url) => {
    const asked = requestOnly({ url, request: { repository: 'acme/app', sha: sha('a') } })
    await expect(asked).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.not.stringContaining('ci.example'),
    })
  },
)
