import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { BuildJson } from '../../../src/lib/api/build.ts'
import type { BuildListJson, RepositoryJson } from '../../../src/lib/api/lists.ts'
import { WEBHOOK_WAIT_S } from '../../../src/lib/pipeline/missed/compare-heads.ts'
import { startGate } from '../../support/gates.ts'
import type { GitRepository } from '../../support/git/repository.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { buildLog, pushToEnd, startWorld, type World } from '../../support/world.ts'

/** Pushes whose webhook never came: the server finds them in the repository. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'
const WHY = 'because: found by comparing branches: no webhook came\n'

let world: World
let postgres: TestPostgres
beforeAll(async () => {
  ;[world, postgres] = await Promise.all([
    startWorld({ env: { WARM: '0', GIT_COMPARE: '4m' } }),
    startPostgres(),
  ])
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await postgres[Symbol.asyncDispose]()
})

async function get<T>(server: ConveyorServer, path: string): Promise<T> {
  const answer = await fetch(`${server.url}${path}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as T
}

const buildsOf = async (server: ConveyorServer, repository: string): Promise<BuildJson[]> =>
  (await get<BuildListJson>(server, `/builds?repository=${repository}&limit=100`)).builds.toReversed()

/** Waits until so many builds of a repository have succeeded; resolves to them, oldest first. */
async function succeeded(server: ConveyorServer, repository: string, count: number): Promise<BuildJson[]> {
  const states = async () => (await buildsOf(server, repository)).map(({ state }) => state)
  await expect.poll(states).toEqual(Array(count).fill('succeeded'))
  return buildsOf(server, repository)
}

/** Waits until the heads of a repository have been compared. */
async function compared(server: ConveyorServer, repository: string): Promise<void> {
  const last = async () => (await get<RepositoryJson>(server, `/repositories/${repository}`)).compared
  await expect.poll(last).toMatchObject({ error: null })
}

/** A repository with one commit, built by its webhook. */
async function repositoryWith(server: ConveyorServer, repository: string): Promise<GitRepository> {
  const git = await world.git.create(repository)
  const sha = await git.commit({ Dockerfile: DOCKERFILE, name: `${repository} 1` })
  await git.git('branch', 'old', sha)
  expect((await pushToEnd(world, server, { repository, sha })).status.state).toBe('success')
  await compared(server, repository)
  return git
}

const refsOf = ({ refs }: BuildJson) => refs.map(({ name }) => name)

describe('after an outage', () => {
  const repository = 'acme/outage'

  /** Everything in the store was an hour earlier. */
  function moveClock(): void {
    const database = new DatabaseSync(join(world.dataDir, 'conveyor.db'))
    const earlier = (column: string) => `${column} = strftime('%Y-%m-%dT%H:%M:%fZ', ${column}, '-1 hour')`
    const builds = ['created_at', 'started_at', 'completed_at'].map(earlier).join(', ')
    database.exec(`
      update builds set ${builds};
      update comparisons set ${['next_at', 'compared_at'].map(earlier).join(', ')};
    `)
    database.close()
  }

  test('of an hour, what was pushed is built once, oldest first, and nothing else', async () => {
    const flags = ['--build.branches', '*', '--build.branches', '!private/*']
    const before = await world.startServer({ flags })
    const git = await repositoryWith(before, repository)
    const [first] = await buildsOf(before, repository)
    await before.kill('SIGTERM')
    moveClock()

    // Pushed to main twice; five tags at once, for which GitHub sends nothing; a new branch; what is not to be built.
    const second = await git.commit({ name: 'outage 2' }, { date: new Date('2024-03-01') })
    const third = await git.commit({ name: 'outage 3' }, { date: new Date('2024-03-03') })
    await git.commit({ name: 'outage 4' }, { branch: 'topic', from: second, date: new Date('2024-03-02') })
    const skipped = await git.commit(
      { name: 'skipped' },
      { branch: 'skipped', from: third, message: 'Words [skip ci]' },
    )
    await git.commit({ name: 'private' }, { branch: 'private/x', from: third })
    for (const tag of ['v1', 'v2', 'v3', 'v4']) await git.git('tag', tag, third)
    await git.git(
      '-c',
      'user.name=A',
      '-c',
      'user.email=a@example.com',
      'tag',
      '-a',
      '-m',
      'five',
      'v5',
      second,
    )
    await git.git('branch', '-D', 'old')

    const after = await world.startServer({ flags })
    const builds = await succeeded(after, repository, 4)
    expect(builds.map(refsOf)).toEqual([
      ['main'],
      ['v5'],
      ['topic'],
      expect.arrayContaining(['main', 'v1', 'v2', 'v3', 'v4']),
    ])
    expect(builds.map(({ source }) => source)).toEqual(['webhook', 'server', 'server', 'server'])
    expect(builds[0]?.id).toBe(first?.id)
    expect(builds[3]).toMatchObject({ sha: third, reason: 'found by comparing branches: no webhook came' })
    for (const build of builds.slice(1)) expect(await buildLog(after, build.id)).toContain(`)\n${WHY}`)
    const digest = await world.digest(repository, third)
    for (const tag of ['main', 'latest', 'v1', 'v4']) expect(await world.digest(repository, tag)).toBe(digest)
    expect(await world.digest(repository, 'v5')).toBe(await world.digest(repository, second))
    expect(await world.digest(repository, 'skipped')).toBeNull()
    await world.github.waitForStatus(({ sha, state }) => sha === third && state === 'success')

    // GitHub's delivery was only late.
    const late = { repository, sha: third, before: second, pushedAt: Math.floor(Date.now() / 1000) - 1800 }
    expect(await world.push(after, late)).toBe(builds[3]?.id)
    await after.kill('SIGKILL')
    // Before the next server can compare: after that, a head waits for its webhook.
    await git.commit({ name: 'last' })
    const again = await world.startServer({ flags })
    expect((await succeeded(again, repository, 5)).at(-1)).toMatchObject({
      refs: [{ name: 'main' }],
      source: 'server',
    })
    expect(world.github.statuses.filter(({ sha }) => sha === skipped)).toEqual([])
    await again.kill('SIGTERM')
  })

  test('of the git server, a repository shows why it could not be compared', async () => {
    const server = await world.startServer()
    const repository = 'acme/moved'
    await repositoryWith(server, repository)
    await server.kill('SIGTERM')
    // One request for each repository of this world.
    world.git.failNext(2, 500)
    const after = await world.startServer()
    const error = async () =>
      (await get<RepositoryJson>(after, `/repositories/${repository}`)).compared?.error
    await expect.poll(error).toMatch(/cannot list the branches of acme\/\w+ from 127.0.0.1/)
    await after.kill('SIGTERM')
  })
})

describe('while servers run', () => {
  test('a head waits for its webhook, is built without one, and a late one joins; one of two servers compares', async () => {
    const repository = 'acme/hookless'
    const DATABASE_URL = await postgres.database()
    const env = { DATABASE_URL, GIT_COMPARE: '1s', LOGGER: 'postgres://' }
    const one = await world.startServer({ env: { ...env, DATA_DIR: `${world.dataDir}/one` } })
    const git = await repositoryWith(one, repository)
    const two = await world.startServer({ env: { ...env, DATA_DIR: `${world.dataDir}/two` } })
    const database = new pg.Client({ connectionString: DATABASE_URL })
    await database.connect()
    onTestFinished(() => database.end())
    const waitingHeads = async () => {
      const { rows } = await database.query<{ waiting: string }>('select waiting from comparisons')
      return JSON.parse(rows[0]?.waiting ?? '[]') as { sha: string; since: string }[]
    }
    const waiting = async () => (await waitingHeads()).map(({ sha }) => sha)
    /** Makes heads that wait appear to have waited for long; a comparison that runs meanwhile overwrites it. */
    const moveClock = () =>
      database.query(
        `update comparisons set waiting = regexp_replace(waiting, '"since":"[^"]+"', '"since":"2024-01-01T00:00:00.000Z"', 'g')`,
      )

    // A push whose webhook comes in time.
    const prompt = await git.commit({ name: 'prompt' })
    await expect.poll(waiting).toEqual([prompt])
    expect(await buildsOf(one, repository)).toHaveLength(1)
    await world.push(one, { repository, sha: prompt })
    await succeeded(two, repository, 2)
    await expect.poll(waiting).toEqual([])

    // The hook is deleted; its last delivery comes while the build runs.
    await using gate = await startGate()
    const slow = await git.commit({ Dockerfile: `${DOCKERFILE}RUN ${gate.command()}\n` })
    await expect.poll(waiting).toEqual([slow])
    const count = async () => {
      await moveClock()
      return (await buildsOf(two, repository)).length
    }
    await expect.poll(count).toBe(3)
    await gate.arrival()
    const [, , found] = await buildsOf(two, repository)
    expect(found).toMatchObject({ sha: slow, source: 'server', state: 'building' })
    expect(await world.push(two, { repository, sha: slow, before: prompt })).toBe(found?.id)
    gate.open()
    const builds = await succeeded(one, repository, 3)
    expect(await buildLog(one, builds[2]?.id ?? '')).toContain(WHY)

    const lines = [one, two].map((server) => server.stdout() + server.stderr())
    const finds = lines.map((text) => text.split('no webhook came: build').length - 1)
    expect(finds).toEqual([1, 0])
    // The one that compares ends: the other one takes over, and does not wait for webhooks that the first one missed.
    const last = await git.commit({ Dockerfile: DOCKERFILE, name: 'last' })
    await expect.poll(waiting).toEqual([last])
    const [head] = await waitingHeads()
    await one.kill('SIGTERM')
    const build = (await succeeded(two, repository, 4)).at(-1)
    expect(build).toMatchObject({ sha: last, source: 'server' })
    const waitedMs = Date.parse(build?.created_at ?? '') - Date.parse(head?.since ?? '')
    expect(waitedMs).toBeLessThan(WEBHOOK_WAIT_S * 1000)
    await two.kill('SIGTERM')
  })
})
