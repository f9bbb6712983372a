import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../../src/lib/api/build.ts'
import type { QueueJson } from '../../../src/lib/api/fleet.ts'
import { type Gate, startGate } from '../../support/gates.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { buildLog, pushToEnd, startWorld, WEBHOOK_SECRET, type World } from '../../support/world.ts'

/** Which pushes are built, in which order, and what newer pushes cancel: one worker, which a test can keep busy. */

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({
    env: { BUILD_BRANCHES: '!wip/**,acme/picky:main', BUILD_TAGS: 'v*', WARM: '0' },
  })
  server = await world.startServer({ flags: ['--workers', '1', '--build.network', 'host'] })
})
afterAll(() => world[Symbol.asyncDispose]())

const quick = { Dockerfile: 'FROM scratch\nCOPY . /\n' }

async function json<T>(path: string): Promise<T> {
  const answer = await fetch(`${server.url}${path}`, { headers: { accept: 'application/json' } })
  return (await answer.json()) as T
}

async function commit(repository: string, files: Record<string, string>): Promise<string> {
  const git = await world.git.create(repository)
  return git.commit({ ...files, repository })
}

/** A build that keeps the only worker busy until the gate opens. */
async function occupy(gate: Gate, repository: string): Promise<string> {
  const sha = await commit(repository, {
    Dockerfile: `FROM conveyor-test/busybox:1\nRUN ${gate.command()}\n`,
  })
  const id = await world.push(server, { repository, sha })
  await gate.arrival()
  return id
}

describe('a push is not built', () => {
  async function ignored(ref: string, message = 'Change', repository = 'acme/app'): Promise<string> {
    const facts = { repository, ref, message, sha: 'a'.repeat(40) }
    const answer = await world.github.sendPush({ ...facts, url: server.url, secret: WEBHOOK_SECRET })
    expect(answer.status).toBe(200)
    const { deliveries } = await json<{ deliveries: { ref: string; reason: string }[] }>('/deliveries')
    expect(deliveries[0]?.ref).toBe(ref)
    expect(JSON.parse(answer.body)).toEqual({ ignored: deliveries[0]?.reason })
    return deliveries[0]?.reason ?? ''
  }

  test('if the patterns exclude its branch or git tag, and the delivery says so', async () => {
    expect(await ignored('refs/heads/wip/idea')).toBe('branch "wip/idea" is excluded by --build.branches')
    expect(await ignored('refs/heads/dev', 'Change', 'Acme/Picky')).toBe(
      'branch "dev" is excluded by --build.branches',
    )
    expect(await ignored('refs/tags/nightly')).toBe('git tag "nightly" is excluded by --build.tags')
  })

  test('if its commit says so', async () => {
    expect(await ignored('refs/heads/main', 'Fix a typo [skip ci]')).toBe(
      'the commit\'s message says "[skip ci]"',
    )
    expect(await ignored('refs/heads/main', 'Fix a typo\n\n\nskip-checks: true')).toBe(
      'the commit\'s message says "skip-checks: true"',
    )
  })
})

test('a repository that never had a Dockerfile gets no commit status; its first Dockerfile changes that', async () => {
  const repository = 'acme/docs'
  const git = await world.git.create(repository)
  const plain = await git.commit({ 'README.md': 'Only text\n' })
  const id = await world.push(server, { repository, sha: plain })
  expect(await buildLog(server, id)).toMatch(
    /\nerror: no Dockerfile in the root of acme\/docs@\w{7}\. [^\n]+\n$/,
  )
  expect(await json(`/builds/${id}`)).toMatchObject({ state: 'failed', error_kind: 'build_failed' })

  const broken = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN false\n' })
  const { status } = await pushToEnd(world, server, { repository, sha: broken })
  expect(status.state).toBe('failure')
  expect(world.github.statuses.filter(({ sha }) => sha === plain)).toEqual([])
  expect(world.github.statuses.filter(({ sha }) => sha === broken).map(({ state }) => state)).toEqual([
    'pending',
    'failure',
  ])
})

test('a newer push of a branch replaces the queued build of the older one, which says by which', async () => {
  await using gate = await startGate()
  await occupy(gate, 'acme/busy')
  const repository = 'acme/feature'
  const git = await world.git.create(repository)
  const image = await git.commit(quick)
  const old = await git.commit({ ...quick, file: '1' })
  const newer = await git.commit({ ...quick, file: '2' })
  const main = await world.push(server, { repository, sha: image })
  const ids = [
    await world.push(server, { repository, sha: old, branch: 'feature' }),
    await world.push(server, { repository, sha: newer, branch: 'feature' }),
  ]
  const [first = '', second = ''] = ids
  const short = newer.slice(0, 7)
  expect(await json(`/builds/${first}`)).toMatchObject({
    state: 'cancelled',
    error: `superseded by ${short}`,
    superseded_by: { id: second, sha: newer },
  })
  expect(await buildLog(server, first)).toBe(`superseded by ${short}\n`)
  const page = await (
    await fetch(`${server.url}/builds/${first}`, { headers: { accept: 'text/html' } })
  ).text()
  expect(page).toContain(`<a href="/builds/${second}">${short}</a>`)
  gate.open()
  expect(await buildLog(server, second)).toContain(`building ${repository}@${newer} (branch feature)`)
  expect(await json(`/builds/${second}`)).toMatchObject({ state: 'succeeded' })
  // No image of the repository existed, and so no reason for a status, when it was replaced.
  expect(world.github.statuses.filter(({ sha }) => sha === old)).toEqual([])
  expect((await json<BuildJson>(`/builds/${main}`)).state).toBe('succeeded')

  await using again = await startGate()
  await occupy(again, 'acme/busy-again')
  const late = await git.commit({ ...quick, file: '3' })
  const last = await git.commit({ ...quick, file: '4' })
  await world.push(server, { repository, sha: late, branch: 'feature' })
  await world.push(server, { repository, sha: last, branch: 'feature' })
  const status = await world.github.waitForStatus(({ sha }) => sha === late)
  expect(status).toMatchObject({ state: 'error', description: `Superseded by ${last.slice(0, 7)}.` })
  again.open()
})

test('what somebody asked for starts first, then one build of each repository; the queue shows that', async () => {
  await using gate = await startGate()
  await occupy(gate, 'acme/long')
  const expected: string[] = []
  const request = async (repository: string, ask: (sha: string) => Promise<string>) => {
    const git = await world.git.create(repository)
    return ask(await git.commit({ ...quick, repository }))
  }
  const mono = await world.git.create('acme/monorepo')
  const monorepo: string[] = []
  for (const name of ['a', 'b', 'c']) {
    const sha = await mono.commit({ ...quick, name })
    monorepo.push(await world.push(server, { repository: 'acme/monorepo', sha, branch: name }))
  }
  const small = await request('acme/small', (sha) => world.push(server, { repository: 'acme/small', sha }))
  const asked = await request('acme/asked', async (sha) => {
    const body = JSON.stringify({ repository: 'acme/asked', sha })
    const headers = { accept: 'application/json' }
    const answer = await fetch(`${server.url}/builds`, { method: 'POST', body, headers })
    return ((await answer.json()) as BuildJson).id
  })
  const [first = '', ...rest] = monorepo
  expected.push(asked, first, small, ...rest)
  const { builds } = await json<QueueJson>('/queue')
  expect(builds.map(({ build, position }) => [position, build.id])).toEqual(
    expected.map((id, index) => [index + 1, id]),
  )
  gate.open()
  const ended = await Promise.all(
    expected.map(async (id) => {
      await buildLog(server, id)
      return json<BuildJson>(`/builds/${id}`)
    }),
  )
  expect(ended.map(({ state }) => state)).toEqual(expected.map(() => 'succeeded'))
  const started = ended.toSorted((a, b) => ((a.started_at ?? '') < (b.started_at ?? '') ? -1 : 1))
  expect(started.map(({ id }) => id)).toEqual(expected)
})
