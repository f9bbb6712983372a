import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { startGate } from '../support/gates.ts'
import { engine } from '../support/global-setup.ts'
import { pulled } from '../support/images/pulled.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { buildLog, GITHUB_TOKEN, startWorld, WEBHOOK_SECRET, type World } from '../support/world.ts'

const DOCKERFILE =
  'FROM conveyor-test/busybox:1\nCOPY . /app\nRUN cat /app/greeting > /out\nCMD ["cat", "/out"]\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld()
  // An older and a newer build at once, and the network that a gate needs.
  server = await world.startServer({ flags: ['--workers', '2', '--build.network', 'host'] })
})
afterAll(async () => {
  await server.kill()
  expect(world.github.violations).toEqual([])
  await world[Symbol.asyncDispose]()
})

/** The final status of a commit. */
const finalStatus = (sha: string) =>
  world.github.waitForStatus((status) => status.sha === sha && status.state !== 'pending')

describe('a push becomes an image', () => {
  test('tagged with sha, branch and latest, with a status and a log', async () => {
    const repository = 'Acme/Web'
    const git = await world.git.create(repository)
    const sha = await git.commit({ Dockerfile: DOCKERFILE, greeting: 'hello\n' })
    const id = await world.push(server, { repository, sha, branch: 'feature/x' })

    const status = await finalStatus(sha)
    expect(status).toMatchObject({
      state: 'success',
      context: 'container/docker',
      target_url: `${server.url.replace('127.0.0.1', 'localhost')}/builds/${id}`,
    })
    expect(status.description).toMatch(/^Image built in \d+(\.\d)?s\.$/)
    expect(world.github.statuses.filter((s) => s.sha === sha).map((s) => s.state)).toEqual([
      'pending',
      'success',
    ])

    const digest = await world.digest('acme/web', sha)
    expect(digest).toMatch(/^sha256:/)
    expect(await world.digest('acme/web', 'feature-x')).toBe(digest)
    expect(await world.digest('acme/web', 'latest')).toBe(digest)

    const log = await buildLog(server, id)
    expect(log).toContain(`building Acme/Web@${sha} (branch feature/x)`)
    expect(log).toMatch(/#\d+ \[3\/3\] RUN cat/)
    expect(log).toMatch(/fetch \d+\.\d\d s, .*, build .* of 2 steps cached, .*\), push .*, tag .* in all\n/)
    expect(log).toContain(`image ${world.registry.host}/acme/web@${digest}`)
    expect(server.stdout()).toContain('RUN cat /app/greeting')

    const image = `${world.registry.host}/acme/web:${sha}`
    expect(await runImage(image)).toBe('hello\n')
    const { Config } = await engine().docker.getImage(image).inspect()
    expect(Config.Labels).toMatchObject({
      'org.opencontainers.image.revision': sha,
      'org.opencontainers.image.ref.name': 'feature/x',
      'org.opencontainers.image.created': '2024-01-01T00:00:01.000Z',
      'org.opencontainers.image.source': `${world.git.url}/Acme/Web`,
    })
    const build = await (await fetch(`${server.url}/builds/${id}`)).json()
    expect(build).toMatchObject({ state: 'succeeded', image: `${world.registry.host}/acme/web@${digest}` })
  })

  test('a git tag is built, and the image is tagged with its name', async () => {
    const repository = 'acme/tagged'
    const git = await world.git.create(repository)
    const sha = await git.commit({ Dockerfile: DOCKERFILE, greeting: 'v1\n' })
    await world.push(server, { repository, sha, tag: 'v1.0' })
    expect((await finalStatus(sha)).state).toBe('success')
    expect(await world.digest(repository, 'v1.0')).toBe(await world.digest(repository, sha))
  })

  test('a commit is not built twice: another branch gets its tag', async () => {
    const repository = 'acme/twice'
    const git = await world.git.create(repository)
    const sha = await git.commit({ Dockerfile: `${DOCKERFILE}RUN date +%N > /now\n`, greeting: 'x' })
    await world.push(server, { repository, sha })
    await finalStatus(sha)
    const digest = await world.digest(repository, sha)
    const id = await world.push(server, { repository, sha, branch: 'release' })
    expect(await buildLog(server, id)).toContain('nothing to build: this commit was built before')
    expect(await world.digest(repository, 'release')).toBe(digest)
  })

  test('[docker nocache] runs every step again', async () => {
    const repository = 'acme/nocache'
    const git = await world.git.create(repository)
    const files = { Dockerfile: `${DOCKERFILE}RUN date +%N > /now\n`, greeting: 'x' }
    const [one, two, three] = [
      await git.commit(files),
      await git.commit({ a: '1' }),
      await git.commit({ a: '2' }),
    ]
    const log = async (sha: string, message: string) =>
      buildLog(server, await world.push(server, { repository, sha, message }))
    await log(one, 'first')
    expect(await log(two, 'second')).toMatch(/CACHED|of 3 steps cached/)
    const anew = await log(three, 'third\n\n[docker nocache]')
    expect(anew).toContain(', no cache')
    expect(anew).not.toMatch(/\[[34]\/4\] RUN.*\n.*CACHED/)
  })

  test('an older push that finishes later does not move a tag back', async () => {
    await using gate = await startGate()
    const repository = 'acme/order'
    const git = await world.git.create(repository)
    const slow = await git.commit({
      Dockerfile: DOCKERFILE.replace('RUN', `RUN ${gate.command()} &&`),
      greeting: 'slow',
    })
    const fast = await git.commit({ Dockerfile: DOCKERFILE, greeting: 'fast' })
    const slowId = await world.push(server, { repository, sha: slow })
    await gate.arrival()
    await world.push(server, { repository, sha: fast })
    await finalStatus(fast)
    gate.open()
    await finalStatus(slow)
    expect(await buildLog(server, slowId)).toContain(
      'tag main is not moved: it already points at a newer push',
    )
    expect(await world.digest(repository, slow)).not.toBeNull()
    expect(await world.digest(repository, 'main')).toBe(await world.digest(repository, fast))
    expect(await world.digest(repository, 'latest')).toBe(await world.digest(repository, fast))
  })

  test('a redelivery returns the same build', async () => {
    const repository = 'acme/again'
    const git = await world.git.create(repository)
    const sha = await git.commit({ Dockerfile: DOCKERFILE, greeting: 'x' })
    const push = { repository, sha, delivery: '72d3162e-cc78-11e3-81ab-4c9367dc0958' }
    const id = await world.push(server, push)
    expect(await world.push(server, push)).toBe(id)
    await finalStatus(sha)
    expect(await world.push(server, push)).toBe(id)
  })

  test('a build requested over the API shows the title and the author of its commit, as git does', async () => {
    const repository = 'acme/described'
    const git = await world.git.create(repository)
    const message = 'Grüße <b>an</b> alle\n\nThe body of the message.\n'
    const sha = await git.commit({ Dockerfile: DOCKERFILE, greeting: 'hallo\n' }, { message })
    const asked = await fetch(`${server.url}/builds`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ repository, sha }),
    })
    const { id, commit } = (await asked.json()) as BuildJson
    // Nothing is known of it before it is fetched.
    expect(commit).toBeNull()
    expect((await finalStatus(sha)).state).toBe('success')
    const [title, author] = (await git.git('log', '-1', '--format=%s%n%an', sha)).split('\n')
    expect(title).toBe('Grüße <b>an</b> alle')
    const json = { headers: { accept: 'application/json' } }
    const build = (await (await fetch(`${server.url}/builds/${id}`, json)).json()) as BuildJson
    expect(build).toMatchObject({ source: 'api', commit: { title, author, login: null } })
    const found = await (await fetch(`${server.url}/builds?text=${encodeURIComponent('GRÜßE')}`, json)).json()
    expect(found).toMatchObject({ builds: [{ id, commit: { title } }] })
    const page = await (
      await fetch(`${server.url}/builds/${id}`, { headers: { accept: 'text/html' } })
    ).text()
    expect(page).toContain('Grüße &lt;b&gt;an&lt;/b&gt; alle')
    expect(page).toContain(`by <bdi>${author}</bdi>`)
  })

  test('no secret is in any log, response or command line', async () => {
    const { readFile } = await import('node:fs/promises')
    const output = server.stdout() + server.stderr()
    const cmdline = await readFile(`/proc/${server.pid}/cmdline`, 'utf8')
    for (const secret of [GITHUB_TOKEN, WEBHOOK_SECRET]) {
      expect(output).not.toContain(secret)
      expect(cmdline).not.toContain(secret)
    }
    expect(cmdline).toMatch(/^conveyor server/)
  })
})

/** Runs an image to its end and returns its output. */
async function runImage(image: string): Promise<string> {
  const { docker } = engine()
  await pulled(docker, image)
  const container = await docker.createContainer({
    Image: image,
    Tty: true,
    NetworkDisabled: true,
    HostConfig: { NetworkMode: 'none' },
  })
  try {
    await container.start()
    await container.wait()
    return (await container.logs({ stdout: true })).toString().replaceAll('\r', '')
  } finally {
    await container.remove({ force: true })
  }
}
