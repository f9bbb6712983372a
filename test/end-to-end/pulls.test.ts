import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import type { GitRepository } from '../support/git/repository.ts'
import { commentEvent, type MadeEvent, mergeGroupEvent, pullEvent } from '../support/github/pull-events.ts'
import { sendWebhook } from '../support/github/push.ts'
import { imageConfig } from '../support/images/pushed-image.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { buildLog, startWorld, WEBHOOK_SECRET, type World } from '../support/world.ts'

/** Pull requests of the repository and of forks, and merge queues, from the webhook to the registry. */

const SECRET = 'the-secret-of-the-repository'
/** Tells whether a build has the secret, and whether its step ran or came from a cache. */
const DOCKERFILE =
  'FROM conveyor-test/busybox:1\nCOPY . /app\n' +
  'RUN --mount=type=secret,id=key --mount=type=cache,target=/kept,id=kept ' +
  'if [ -e /run/secrets/key ]; then cp /run/secrets/key /key; else echo none > /key; fi; ' +
  'ls /kept > /found; echo $RANDOM > /kept/$(cat /key | wc -c); cat /proc/sys/kernel/random/uuid > /run-id\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ env: { WARM: '0' } })
  await mkdir(join(world.dataDir, 'secrets'), { recursive: true })
  await writeFile(join(world.dataDir, 'secrets', 'key'), SECRET)
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

interface Answer {
  status: number
  ignored?: string
  done?: string
  id?: string
  outcome?: string
}

/** Sends an event; resolves to the answer's status and body. */
async function send({ event, payload }: MadeEvent): Promise<Answer> {
  const answer = await sendWebhook({ url: server.url, secret: WEBHOOK_SECRET, event, payload })
  return { status: answer.status, ...(JSON.parse(answer.body) as Omit<Answer, 'status'>) }
}

/** Sends an event that requests a build, and waits for its end. */
async function built(made: MadeEvent): Promise<{ id: string; outcome: string; log: string }> {
  const { status, id = '', outcome = '', ...rest } = await send(made)
  expect({ status, ...rest }).toMatchObject({ status: 202 })
  return { id, outcome, log: await buildLog(server, id) }
}

async function buildOf(id: string): Promise<BuildJson> {
  return (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson
}

/** The commit of a fork, which the base repository has under refs/pull only, as on GitHub. */
async function forked(git: GitRepository, number: number, files: Record<string, string>): Promise<string> {
  const sha = await git.commit(files, { branch: 'elsewhere', from: 'main' })
  await git.git('update-ref', `refs/pull/${number}/head`, sha)
  await git.git('update-ref', '-d', 'refs/heads/elsewhere')
  return sha
}

/** What the RUN step of an image wrote to the root folder, by name. */
async function filesOf(repository: string, tag: string): Promise<Record<string, string>> {
  const { manifest } = await imageConfig(`${world.registry.host}/${repository}:${tag}`)
  const layer = manifest.layers.at(-1)?.digest
  const answer = await fetch(`${world.registry.url}/v2/${repository}/blobs/${layer}`)
  const tar = gunzipSync(Buffer.from(await answer.arrayBuffer()))
  const found: Record<string, string> = {}
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const field = (from: number, to: number) =>
      tar
        .toString('latin1', at + from, at + to)
        .replace(/\0.*$/s, '')
        .trim()
    const size = Number.parseInt(field(124, 136), 8)
    found[field(0, 100)] = tar.toString('utf8', at + 512, at + 512 + size)
    at += 512 + Math.ceil(size / 512) * 512
  }
  return found
}

let files = 0
const unique = () => ({ Dockerfile: DOCKERFILE, text: `${++files} ${randomUUID()}` })

describe('a pull request of the repository', () => {
  test('tags the image of its head, which is built once, and never moves latest', async () => {
    const repository = 'acme/own'
    const git = await world.git.create(repository)
    const main = await git.commit(unique())
    await buildLog(server, await world.push(server, { repository, sha: main }))
    const topic = await git.commit(unique(), { branch: 'topic', from: 'main' })
    await git.git('update-ref', 'refs/pull/7/head', topic)
    await buildLog(server, await world.push(server, { repository, sha: topic, branch: 'topic' }))

    const pull = { repository, number: 7, updatedAt: 1_800_000_000 }
    const opened = await built(await pullEvent('opened', { ...pull, sha: topic }))
    expect(opened.log).toContain('nothing to build: this commit was built before')
    const digest = await world.digest(repository, topic)
    expect(digest).not.toBeNull()
    expect(await world.digest(repository, 'pr-7')).toBe(digest)
    expect(await buildOf(opened.id)).toMatchObject({ refs: [{ kind: 'pull', name: '7' }], branch: null })

    // The event comes before the push of the same commit, which then has nothing to build.
    const latest = await world.digest(repository, 'latest')
    const next = await git.commit(unique(), { branch: 'topic' })
    await git.git('update-ref', 'refs/pull/7/head', next)
    const updatedAt = pull.updatedAt + 9
    const moved = await built(
      await pullEvent('synchronize', { ...pull, sha: next, before: topic, updatedAt }),
    )
    const now = await world.digest(repository, next)
    expect(now).not.toBe(digest)
    expect(await world.digest(repository, 'pr-7')).toBe(now)
    expect(await world.digest(repository, 'topic')).toBe(digest)
    expect(await world.digest(repository, 'latest')).toBe(latest)
    expect(moved.log).not.toContain('nothing to build')
    const pushed = await world.push(server, { repository, sha: next, branch: 'topic', before: topic })
    expect(await buildLog(server, pushed)).toContain('nothing to build')
    expect(await world.digest(repository, 'topic')).toBe(now)

    // An event that arrives late moves nothing back.
    const late = await pullEvent('synchronize', { ...pull, sha: topic, updatedAt: pull.updatedAt + 1 })
    expect(await send(late)).toEqual({
      status: 200,
      ignored: 'a later state of pull request #7 is known already',
    })
    expect(await world.digest(repository, 'pr-7')).toBe(now)

    // This registry does not remove tags.
    await send(await pullEvent('closed', { ...pull, sha: next, updatedAt: pull.updatedAt + 20 }))
    await server.waitFor(/pull request #7 of acme\/own: the registry does not remove tags/)
    expect(await world.digest(repository, 'pr-7')).toBe(now)
  })

  test('whose head was not built, as its message says so, is not built either', async () => {
    const repository = 'acme/skipped'
    const git = await world.git.create(repository)
    await git.commit(unique())
    const sha = await git.commit(unique(), { branch: 'topic', message: 'Later [skip ci]' })
    expect(await send(await pullEvent('opened', { repository, number: 1, sha }))).toEqual({
      status: 200,
      ignored: `the commit's message says "[skip ci]"`,
    })
    const topic = await git.commit(unique(), { branch: 'topic', message: 'Now' })
    expect(await send(await pullEvent('reopened', { repository, number: 2, sha: topic }))).toMatchObject({
      status: 202,
      outcome: 'created',
    })
  })
})

describe('a pull request of a fork', () => {
  test('is built by an approval of its head, without secrets, with tags and a cache of its own', async () => {
    const repository = 'acme/forked'
    const git = await world.git.create(repository)
    const content = unique()
    const main = await git.commit(content)
    await buildLog(server, await world.push(server, { repository, sha: main }))
    const latest = await world.digest(repository, 'latest')
    // The same Dockerfile and files in another commit, so that everything could come from the cache.
    const sha = await forked(git, 9, { 'text.ignored': 'x', ...content })
    const pull = { repository, number: 9, sha, fork: 'mallory/forked' }
    world.github.pulls.set(pull)
    world.github.pulls.permit(repository, 'reader', 'read')
    world.github.pulls.permit(repository, 'ada', 'write')

    const opened = await send(await pullEvent('opened', pull))
    expect(opened.ignored).toContain(`is from mallory/forked: it is built when`)
    const says = (login: string, body: string) => commentEvent({ repository, number: 9, login, body })
    const short = sha.slice(0, 7)
    expect((await send(await says('mallory', `/build ${short}`))).ignored).toContain('mallory may not write')
    expect((await send(await says('reader', `/build ${short}`))).ignored).toContain('reader may not write')
    expect((await send(await says('ada', `/build ${main}`))).ignored).toContain(`which is at ${short}`)
    expect((await send(await says('ada', '/build it'))).ignored).toContain('at least seven digits')
    expect((await send(await says('ada', `I said /build ${short}`))).ignored).toContain('no line /build')
    // As if it were a commit of the repository, it is refused.
    const asOwn = await fetch(`${server.url}/builds`, {
      method: 'POST',
      body: JSON.stringify({ repository, sha }),
    })
    expect([asOwn.status, await asOwn.text()]).toEqual([409, expect.stringContaining('--pull 9')])

    const { id, log } = await built(await says('ada', `Looks good.\n/build ${short}\n`))
    expect(await buildOf(id)).toMatchObject({
      state: 'succeeded',
      fork: { pull: 9, repository: 'mallory/forked', approved_by: 'ada' },
      refs: [{ kind: 'pull', name: '9' }],
    })
    const digest = await world.digest(repository, 'pr-9')
    expect(digest).not.toBeNull()
    expect(await world.digest(repository, `pr-9..${sha}`)).toBe(digest)
    expect(await world.digest(repository, sha)).toBeNull()
    expect(await world.digest(repository, 'latest')).toBe(latest)
    expect(await world.digest(repository, 'main')).toBe(latest)
    expect(log).not.toContain('nothing to build')
    const status = await world.github.waitForStatus((one) => one.sha === sha && one.state === 'success')
    expect(status.repository).toBe(repository)
    const fork = await filesOf(repository, 'pr-9')
    const own = await filesOf(repository, main)
    // Its step ran, without the secret, and with an empty cache mount.
    expect(fork).toMatchObject({ key: 'none\n', found: '' })
    expect(own).toMatchObject({ key: SECRET, found: '' })
    expect(fork['run-id']).not.toBe(own['run-id'])

    // Merged by a fast forward: the repository builds the commit itself, and nothing of the fork's build.
    await git.git('update-ref', 'refs/heads/main', sha)
    const merged = await buildLog(server, await world.push(server, { repository, sha, before: main }))
    expect(merged).not.toContain('nothing to build: this commit')
    const built2 = await filesOf(repository, sha)
    expect(built2).toMatchObject({ key: SECRET })
    expect(built2['run-id']).not.toBe(fork['run-id'])
    expect(await world.digest(repository, 'pr-9')).toBe(digest)
  })

  test('cannot bring a frontend of its own', async () => {
    const repository = 'acme/frontend'
    const git = await world.git.create(repository)
    await git.commit(unique())
    const Dockerfile = '# syntax=evil.example/docker/dockerfile:1\nFROM conveyor-test/busybox:1\n'
    const sha = await forked(git, 3, { Dockerfile })
    world.github.pulls.set({ repository, number: 3, sha, fork: 'mallory/frontend' })
    const order = { repository, sha: sha.slice(0, 8), pull: 3 }
    const answer = await fetch(`${server.url}/builds`, { method: 'POST', body: JSON.stringify(order) })
    const log = await answer.text()
    expect(log).toContain('its Dockerfile selects the frontend evil.example/docker/dockerfile:1')
    expect(await world.digest(repository, 'pr-3')).toBeNull()
  })
})

describe('a merge queue', () => {
  test('gets a status for its commit, and the merge is a tag', async () => {
    const repository = 'acme/queue'
    const git = await world.git.create(repository)
    await git.commit(unique())
    const branch = 'gh-readonly-queue/main/pr-7-929f8209d40f77f4abc622a499c93a83babdbe64'
    const sha = await git.commit(unique(), { branch, from: 'main' })
    const tree = await world.git.treeOf(repository, sha)
    const requested = await mergeGroupEvent({ repository, sha, branch, tree })
    const first = await built(requested)
    expect(first.outcome).toBe('created')
    await world.github.waitForStatus((one) => one.sha === sha && one.state === 'success')
    expect(await world.digest(repository, 'latest')).toBeNull()
    // The push of the queue's branch, which GitHub sends as well.
    const pushed = await world.push(server, { repository, sha, branch })
    await buildLog(server, pushed)

    expect(
      (await send(await mergeGroupEvent({ repository, sha, branch, reason: 'merged' }))).ignored,
    ).toContain('merged')
    await git.git('update-ref', 'refs/heads/main', sha)
    const log = await buildLog(server, await world.push(server, { repository, sha }))
    expect(log).toContain('nothing to build: this commit was built before')
    expect(await world.digest(repository, 'main')).toBe(await world.digest(repository, sha))
  })

  test('that gives a commit up cancels its build, unless somebody else wants it', async () => {
    const repository = 'acme/dequeued'
    const git = await world.git.create(repository)
    await git.commit(unique())
    const slow = async (number: number) => {
      const branch = `gh-readonly-queue/main/pr-${number}-929f8209d40f77f4abc622a499c93a83babdbe64`
      const Dockerfile = `FROM conveyor-test/busybox:1\nRUN sleep 40${number}\n`
      const sha = await git.commit({ Dockerfile }, { branch, from: 'main' })
      const { id = '' } = await send(await mergeGroupEvent({ repository, sha, branch }))
      return { branch, sha, id }
    }
    const one = await slow(1)
    const gone = await mergeGroupEvent({ repository, ...one, reason: 'dequeued' })
    expect(await send(gone)).toMatchObject({ status: 200, done: expect.stringContaining(one.id) })
    const status = await world.github.waitForStatus(({ sha, state }) => sha === one.sha && state === 'error')
    expect(status.description).toBe('Cancelled by the merge queue (dequeued).')

    const other = await slow(2)
    await fetch(`${server.url}/builds`, {
      method: 'POST',
      headers: { accept: 'application/json' },
      body: JSON.stringify({ repository, sha: other.sha, branch: other.branch }),
    })
    await world.push(server, { repository, sha: other.sha, branch: 'kept' })
    const kept = await mergeGroupEvent({ repository, ...other, reason: 'invalidated' })
    expect((await send(kept)).ignored).toContain('requested for something else, too')
    expect((await buildOf(other.id)).state).toMatch(/pending|building/)
    await fetch(`${server.url}/builds/${other.id}/cancel`, { method: 'POST' })
  })
})
