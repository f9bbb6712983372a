import { expect, it } from 'vitest'
import { type NewAccessToken, newTokenText, tokenHash } from '../../src/lib/core/access/access-token.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { sha, startTestServer } from '../support/test-server.ts'

it('finds a build by the first digits of its id, and lists several that begin the same', async () => {
  await using server = await startTestServer()
  const builds = new Map<string, Build[]>()
  /** Two builds whose ids begin with the same digit: at the latest, the seventeenth has one. */
  let pair: Build[] = []
  for (let at = 0; pair.length < 2; at++) {
    const build = await server.begin(at.toString(16).padStart(40, '0'))
    const digit = build.id.slice(0, 1)
    pair = [...(builds.get(digit) ?? []), build]
    builds.set(digit, pair)
  }
  const [first, second] = pair as [Build, Build]
  const get = async (key: string) => {
    const answer = await fetch(`${server.url}/builds/${key}`, { headers: { accept: 'application/json' } })
    return { status: answer.status, body: (await answer.json()) as { id: string; message?: string } }
  }
  expect(await get(first.id.slice(0, 12))).toMatchObject({ status: 200, body: { id: first.id } })
  // So few digits are ambiguous soon.
  expect((await get(first.id.slice(0, 3))).status).toBe(404)
  const { store } = server
  const startingWith = store.startingWith
  store.startingWith = (_prefix, limit) => startingWith(first.id.slice(0, 1), limit)
  const { status, body } = await get(first.id.slice(0, 4))
  expect(status).toBe(400)
  for (const { id } of [first, second]) expect(body.message).toContain(id)
  expect((await get(sha('9'))).status).toBe(404)
})

it('is not kept from it by builds that somebody may not see', async () => {
  await using server = await startTestServer({ auth: { username: 'ops', password: 'correct-horse' } })
  const build = await server.begin(sha('a'))
  const hidden = Array.from({ length: 15 }, (_, at) => ({
    ...build,
    id: `h${at}`,
    repository: 'acme/hidden',
  }))
  const startingWith = server.store.startingWith
  server.store.startingWith = async (prefix, limit) =>
    [...hidden, ...(await startingWith(prefix, limit))].slice(0, limit)
  const token = newTokenText()
  const asked = {
    name: 'ci',
    scope: 'read',
    repositories: ['acme/app'],
    createdBy: 'ops',
  } satisfies Partial<NewAccessToken>
  await server.store.tokens.create({ ...asked, expiresInSeconds: null }, tokenHash(token))
  const answer = await fetch(`${server.url}/builds/${build.id.slice(0, 8)}`, {
    headers: { accept: 'application/json', authorization: `Bearer ${token}` },
  })
  expect([answer.status, await answer.json()]).toEqual([200, expect.objectContaining({ id: build.id })])
})

it('finds a build by the first seven digits of its commit, unless several begin with them', async () => {
  await using server = await startTestServer()
  const [one, two] = [`1234567a${'0'.repeat(32)}`, `1234567b${'0'.repeat(32)}`]
  const build = await server.begin(one)
  await server.succeed(build)
  const get = async (path: string) => {
    const answer = await fetch(server.url + path, { headers: { accept: 'application/json' } })
    return { status: answer.status, body: (await answer.json()) as { id: string; message?: string } }
  }
  expect(await get('/builds/acme/app@1234567')).toMatchObject({ status: 200, body: { id: build.id } })
  expect(await get('/builds/acme/app@1234567A')).toMatchObject({ status: 200, body: { id: build.id } })
  expect((await get('/artifacts/acme/app@1234567')).status).toBe(200)
  expect((await get('/builds/acme/app@7654321')).status).toBe(404)
  expect((await get('/builds/acme/app@123456')).status).toBe(400)
  expect((await get('/builds/acme/app@notahex')).status).toBe(400)
  await server.begin(two)
  const { status, body } = await get('/builds/acme/app@1234567')
  expect(status).toBe(400)
  for (const sha of [one, two]) expect(body.message).toContain(sha)
  expect((await get('/builds/acme/app@1234567a')).status).toBe(200)
})
