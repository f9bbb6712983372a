import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import type { BuildListJson } from '../../src/lib/api/lists.ts'
import type { NotificationListJson } from '../../src/lib/api/notification.ts'
import type { OpenApi } from '../../src/lib/server/api/openapi.ts'
import { putImage } from '../support/images/put-image.ts'
import { isSigned, type Received, type Receiver, startReceiver } from '../support/network/receiver.ts'
import { DocumentSchemas } from '../support/openapi/schemas.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { until } from '../support/test-server.ts'
import { buildLog, pushToEnd, startWorld, type World } from '../support/world.ts'

/** Webhooks out, and builds because of a base image, of a real server. Its clock is moved in its database. */

const SECRET = 'the-secret-of-webhooks-out'
const PASSWORD = 'the-password-in-a-url'

let world: World
let server: ConveyorServer
let receiver: Receiver
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  receiver = resources.use(await startReceiver())
  world = resources.use(
    await startWorld({
      env: {
        NOTIFY_URL: `${receiver.url}/hooks/${PASSWORD},outbound/hub:${receiver.url}/hub`,
        NOTIFY_FORMAT: 'outbound/hub:dockerhub',
        NOTIFY_SECRET: SECRET,
        NOTIFY_LOCAL: 'true',
        REBUILD_BASE: 'outbound/*',
      },
    }),
  )
  server = await world.startServer()
})
afterAll(() => resources.disposeAsync())

/** Ends the server at once, changes its database, and starts another one on it. */
async function restart(change: (database: DatabaseSync) => void): Promise<void> {
  await server.kill('SIGKILL')
  const database = new DatabaseSync(join(world.dataDir, 'conveyor.db'))
  change(database)
  database.close()
  server = await world.startServer()
}

async function get<T>(path: string): Promise<T> {
  return (await (await fetch(`${server.url}${path}`)).json()) as T
}

const about = (build: string) =>
  receiver.received.filter(({ json }) => (json.build as BuildJson)?.id === build)
const webhooks = async (build: string) =>
  (await get<NotificationListJson>(`/builds/${build}/notifications`)).notifications

test('a build that ends is announced by a signed webhook, as described in /openapi.json', async () => {
  const repository = 'outbound/web'
  const git = await world.git.create(repository)
  const sha = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nCOPY . /app\n', a: '1' })
  const { build } = await pushToEnd(world, server, { repository, sha })
  await until(async () => (await webhooks(build.id))[0]?.state === 'delivered')
  const [hook, ...others] = about(build.id)
  expect(others).toEqual([])
  const { path, json } = hook as Received
  expect(path).toBe(`/hooks/${PASSWORD}`)
  expect(await isSigned(hook as Received, SECRET)).toBe(true)
  expect(json.build).toEqual(await get(`/builds/${build.id}`))
  expect(json.artifact).toEqual(await get(`/artifacts/outbound/web@${sha}`))
  expect((json.build as BuildJson).image?.split('@')[1]).toBe(await world.digest(repository, 'main'))
  const schemas = new DocumentSchemas(await get<OpenApi>('/openapi.json'))
  expect(schemas.problems({ $ref: '#/components/schemas/BuildEnded' }, json)).toBeNull()
  expect(schemas.problems({ $ref: '#/components/schemas/BuildEnded' }, { ...json, more: 1 })).not.toBeNull()

  const page = await (
    await fetch(`${server.url}/builds/${build.id}`, { headers: { accept: 'text/html' } })
  ).text()
  expect(page).toContain('<summary>Webhook: 1 delivered</summary>')
  const shown = [page, server.stderr(), server.stdout(), JSON.stringify(await webhooks(build.id))].join()
  expect(shown).not.toContain(PASSWORD)
  expect(shown).not.toContain(SECRET)
})

test('in Docker Hub’s format, each tag is announced by a name that can be pulled', async () => {
  const repository = 'outbound/hub'
  const git = await world.git.create(repository)
  const sha = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nCOPY . /app\n', a: '2' })
  const { build } = await pushToEnd(world, server, { repository, sha })
  const hooks = () => receiver.received.filter(({ path }) => path === '/hub')
  await until(() => hooks().length === 3)
  const schemas = new DocumentSchemas(await get<OpenApi>('/openapi.json'))
  for (const hook of hooks()) {
    expect(await isSigned(hook, SECRET)).toBe(true)
    expect(schemas.problems({ $ref: '#/components/schemas/ImagePushed' }, hook.json)).toBeNull()
    const { push_data, repository: named } = hook.json as {
      push_data: { tag: string }
      repository: { repo_name: string }
    }
    expect(named.repo_name).toBe(`${world.registry.host}/outbound/hub`)
    expect(await world.digest('outbound/hub', push_data.tag)).toBe(build.image?.split('@')[1])
  }
  const tags = hooks().map(({ json }) => (json.push_data as { tag: string }).tag)
  expect(tags.sort()).toEqual([sha, 'latest', 'main'].sort())
})

test('a webhook outlives the server: it is sent again by the next one, and by request', async () => {
  const repository = 'outbound/late'
  const git = await world.git.create(repository)
  const sha = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN false\n' })
  receiver.answer = (_, response) => void response.writeHead(500).end('starting up')
  const { build } = await pushToEnd(world, server, { repository, sha })
  await until(async () => (await webhooks(build.id))[0]?.status === 500)
  expect(await webhooks(build.id)).toEqual([
    expect.objectContaining({ state: 'pending', attempts: 1, answer: 'starting up', error: 'HTTP 500' }),
  ])
  receiver.answer = (_, response) => void response.writeHead(204).end()
  await restart((database) =>
    database.exec(`update notifications set due_at = '2000-01-01T00:00:00.000Z' where state = 'pending'`),
  )
  await until(async () => (await webhooks(build.id))[0]?.state === 'delivered')
  const [own] = await webhooks(build.id)
  expect(own).toMatchObject({ attempts: 2, status: 204, error: null })
  await fetch(`${server.url}/notifications/${own?.id}/redeliver`, { method: 'POST' })
  await until(() => about(build.id).length === 3)
  const hooks = about(build.id)
  expect(new Set(hooks.map(({ headers }) => headers['x-conveyor-delivery']))).toEqual(new Set([own?.id]))
  expect(hooks.map(({ json }) => (json.build as BuildJson).state)).toEqual(['failed', 'failed', 'failed'])
})

test('a base image that moves leads to builds of the default branch and the newest release', async () => {
  const repository = 'outbound/based'
  const { host } = world.registry
  await putImage(host, 'outbound/base')
  const base = `${host}/outbound/base:1`
  const git = await world.git.create(repository)
  const Dockerfile = `FROM ${base}\nCOPY . /app\n`
  const release = await git.commit({ Dockerfile, a: '1' })
  await pushToEnd(world, server, { repository, sha: release, tag: 'v1' })
  const head = await git.commit({ Dockerfile, a: '2' })
  await pushToEnd(world, server, { repository, sha: head })
  const before = { v1: await world.digest(repository, 'v1'), main: await world.digest(repository, 'main') }
  const because = async () => {
    const { builds } = await get<BuildListJson>(`/builds?repository=${repository}`)
    return builds.filter(({ reason }) => reason !== undefined)
  }
  const nextHour = () =>
    restart((database) => database.exec(`delete from leases where name like 'base images%'`))
  await nextHour()

  await putImage(host, 'outbound/base')
  await nextHour()
  await until(async () => (await because()).filter(({ state }) => state === 'succeeded').length === 2)
  const builds = await because()
  expect(builds.map(({ sha, source }) => ({ sha, source }))).toEqual([
    { sha: release, source: 'server' },
    { sha: head, source: 'server' },
  ])
  const reason = new RegExp(`^base image ${base} moved from sha256:\\w{12} to sha256:\\w{12}$`)
  for (const build of builds) {
    expect(build.reason).toMatch(reason)
    expect(await buildLog(server, build.id)).toContain(`\nbecause: ${build.reason}\n`)
    const page = await fetch(`${server.url}/builds/${build.id}`, { headers: { accept: 'text/html' } })
    expect(await page.text()).toContain(`Built because: ${build.reason}`)
    const [name] = build.sha === head ? (['main'] as const) : (['v1'] as const)
    const digest = await world.digest(repository, name)
    expect(digest).toBe(build.image?.split('@')[1])
    expect(digest).not.toBe(before[name])
  }
  await nextHour()
  // Once everything is looked up, and requested, the lease is for an hour. Nobody else can read it while the server runs.
  let [hasLooked, tries] = [false, 0]
  await until(async () => {
    await sleep(1000 * ++tries)
    await restart((database) => {
      const lease = database.prepare(`select held_until from leases where name = 'base images'`).get()
      hasLooked = Date.parse(String(lease?.held_until)) > Date.now() + 1800_000
      if (!hasLooked) database.exec(`delete from leases where name = 'base images'`)
    })
    return hasLooked
  })
  expect(await because()).toHaveLength(2)
})
