import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkEvent } from '../../support/github/check-events.ts'
import { sendWebhook } from '../../support/github/push.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { buildLog, startWorld, WEBHOOK_SECRET, type World } from '../../support/world.ts'

const FROM = 'FROM conveyor-test/busybox:1\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ app: true, flags: ['--workers', '1', '--github.context', 'image'] })
  if (!world.app) throw new Error('the world has no App')
  world.github.apps.install(world.app, 'acme')
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

const ended = (sha: string, after?: string) =>
  world.github.checks.waitFor(
    (run) => run.head_sha === sha && run.status === 'completed' && run.external_id !== after,
  )
const of = (sha: string) => world.github.checks.runs.filter((run) => run.head_sha === sha)

async function create(repository: string) {
  world.github.setDefaultBranch(repository, 'main')
  return world.git.create(repository)
}

/** What somebody does on GitHub. */
async function press(facts: Parameters<typeof checkEvent>[0], delivery?: string) {
  const sent = { url: `${server.url}/`, secret: WEBHOOK_SECRET, ...(await checkEvent(facts)) }
  const { status, body } = await sendWebhook({ ...sent, ...(delivery && { delivery }) })
  return {
    status,
    ...(JSON.parse(body) as { id?: string; outcome?: string; done?: string; ignored?: string }),
  }
}

test('a push is a check run with the image; re-run, it is another build and run, and only one for a delivery', async () => {
  const repository = 'acme/web'
  const git = await create(repository)
  const sha = await git.commit({ Dockerfile: `${FROM}COPY . /app\nRUN cat /app/a\n`, a: '1' })
  const id = await world.push(server, { repository, sha })
  const run = await ended(sha)
  const digest = await world.digest(repository, sha)
  expect(run).toMatchObject({
    ...{ name: 'image', external_id: id, conclusion: 'success', repository },
    details_url: expect.stringMatching(`/builds/${id}$`),
    title: expect.stringMatching(/^Image built in \d/),
  })
  expect(run.history.at(-2)).toBe('in_progress')
  const text = run.summary?.replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
  expect(text).toContain(`docker pull ${world.registry.host}/acme/web@${digest}`)
  expect(text).toContain('<code>latest</code>')
  expect(text).toMatch(/\| build \| \d+\.\d\d s \|/)
  expect(world.github.statuses).toEqual([])

  const again = await press({ repository, sha, buildId: id }, 'once')
  expect(again).toMatchObject({ status: 202, outcome: 'created' })
  expect(again.id).not.toBe(id)
  expect(await ended(sha, id)).toMatchObject({ external_id: again.id, conclusion: 'success' })
  expect(await press({ repository, sha, buildId: id }, 'once')).toMatchObject({ status: 202, id: again.id })
  expect(of(sha)).toHaveLength(2)

  // All checks of the commit: those of its newest build.
  const all = await press({ repository, sha })
  expect(all).toMatchObject({ status: 202, outcome: 'created' })
  await world.github.checks.waitFor((one) => one.external_id === all.id && one.status === 'completed')
  const other = await press({ repository: 'acme/other', sha, buildId: id })
  expect(other).toEqual({ status: 200, ignored: 'no build of this commit belongs to it' })
})

test('a build that fails annotates the line of the Dockerfile', async () => {
  const repository = 'acme/broken'
  const git = await create(repository)
  const sha = await git.commit({ Dockerfile: `${FROM}WORKDIR /x\nRUN echo no && \\\n    false\n` })
  await world.push(server, { repository, sha })
  const run = await ended(sha)
  expect(run).toMatchObject({
    conclusion: 'failure',
    title: expect.stringContaining('failed with exit code 1'),
  })
  expect(run.annotations).toMatchObject([
    {
      path: 'Dockerfile',
      start_line: 3,
      end_line: 4,
      annotation_level: 'failure',
      message: expect.stringContaining('exit code 1'),
    },
  ])
  // The button of an ended build.
  const anew = await press({
    repository,
    sha,
    buildId: run.external_id,
    button: run.actions[0]?.identifier ?? '',
  })
  expect(anew).toMatchObject({ status: 202, outcome: 'created' })
  await ended(sha, run.external_id)
  expect(await buildLog(server, anew.id ?? '')).toContain(', no cache')
})

test('a build is cancelled by its button, and one that waited for it was queued', async () => {
  const repository = 'acme/slow'
  const git = await create(repository)
  const slow = await git.commit({ Dockerfile: `${FROM}RUN sleep 300\n` })
  const waiting = await git.commit({ Dockerfile: `${FROM}RUN echo waited\n` })
  const id = await world.push(server, { repository, sha: slow })
  const run = await world.github.checks.waitFor(
    (one) => one.external_id === id && one.status === 'in_progress',
  )
  expect(run.actions).toMatchObject([{ identifier: 'cancel' }])
  await world.push(server, { repository, sha: waiting, branch: 'other' })
  await world.github.checks.waitFor((one) => one.head_sha === waiting && one.status === 'queued')

  expect(await press({ repository, sha: slow, buildId: id, button: 'cancel', sender: 'ada' })).toMatchObject({
    status: 200,
    done: expect.stringContaining(id),
  })
  expect(await ended(slow)).toMatchObject({ conclusion: 'cancelled', title: 'Cancelled by ada.' })
  expect((await ended(waiting)).history).toEqual(['queued', 'in_progress', 'completed'])
  const late = await press({ repository, sha: slow, buildId: id, button: 'cancel' })
  expect(late.ignored).toContain('has already ended')
})

test('a check run outlives the server that made it, and stays the only one of its build', async () => {
  const repository = 'acme/crash'
  const git = await create(repository)
  const sha = await git.commit({ Dockerfile: `${FROM}RUN sleep 6\n` })
  const id = await world.push(server, { repository, sha })
  await world.github.checks.waitFor((run) => run.external_id === id && run.status === 'in_progress')
  await server.kill()
  server = await world.startServer()
  expect(await ended(sha)).toMatchObject({ external_id: id, conclusion: 'success' })
  expect(of(sha)).toHaveLength(1)
})

test('an App without the permission sets commit statuses instead', async () => {
  world.github.checks.denied.add('acme/denied')
  const repository = 'acme/denied'
  const git = await create(repository)
  const sha = await git.commit({ Dockerfile: `${FROM}RUN true\n` })
  await world.push(server, { repository, sha })
  const status = await world.github.waitForStatus((one) => one.sha === sha && one.state === 'success')
  expect(status.context).toBe('image')
  expect(of(sha)).toEqual([])
})
