import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { statusDescription } from '../../src/lib/forge/github/github.ts'
import { docker, startPrivateEngine } from '../support/engines/engine.ts'
import { startGate } from '../support/gates.ts'
import { engine } from '../support/global-setup.ts'
import { faultyRegistry } from '../support/registry/answers.ts'
import { frontOf } from '../support/registry/doubles.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { buildLog, pushToEnd, startWorld, type World } from '../support/world.ts'

/** A component that a build depends on breaks: what is retried, what is given up, and what users read. */

const BASE = 'conveyor-test/busybox:1'
const DOCKERFILE = `FROM ${BASE}\nCOPY . /app\n`

let world: World
beforeAll(async () => {
  world = await startWorld({ env: { BUILD_NETWORK: 'host' } })
})
afterAll(() => world[Symbol.asyncDispose]())

/** A new repository with one commit that no other repository has. */
async function commit(repository: string, dockerfile = DOCKERFILE): Promise<string> {
  const git = await world.git.create(repository)
  return git.commit({ Dockerfile: dockerfile, repository })
}

const start = (retryDelays: string, env: NodeJS.ProcessEnv = {}) =>
  world.startServer({ flags: ['--retry.delays', retryDelays], env })

describe('the registry', () => {
  test('that is down during the push, and comes back, gets the image in a later attempt', async () => {
    await using registry = await startRegistry()
    await using gate = await startGate()
    await using server = await start('1s,5s,15s,30s', { REGISTRY: registry.host })
    const repository = 'acme/patient'
    const sha = await commit(repository, `${DOCKERFILE}RUN ${gate.command()}\n`)
    const ending = pushToEnd(world, server, { repository, sha })
    await gate.arrival()
    await registry.stop()
    gate.open()
    await server.waitFor(/trying again in 1 s/)
    await registry.start()

    const { status, build, log } = await ending
    expect(status.state).toBe('success')
    expect(build).toMatchObject({ state: 'succeeded', error: null })
    expect(log).toMatch(
      /\nerror: pushing 127\.0\.0\.1:\d+\/acme\/patient:\w{7} failed: .*connection refused\. Check that the registry is running and that the engine can reach it\n\ntrying again in 1 s\n\nbuilding acme\/patient@\w{40} \(branch main\)\nattempt 2 of 5\n/,
    )
  })

  test('that stays down is an error, after the attempts', async () => {
    const repository = 'acme/hopeless'
    const sha = await commit(repository)
    await using server = await start('0s', { REGISTRY: '127.0.0.1:1' })
    const { status, build, log } = await pushToEnd(world, server, { repository, sha })
    const error = `pushing 127.0.0.1:1/acme/hopeless:${sha.slice(0, 7)} failed: the registry does not respond: dial tcp 127.0.0.1:1: connect: connection refused. Check that the registry is running and that the engine can reach it`
    expect(status).toMatchObject({ state: 'error', description: statusDescription(error) })
    expect(status.description).toContain('connection refused')
    expect(build).toMatchObject({ state: 'failed', error, error_kind: 'unavailable' })
    expect(log).toMatch(/connection refused\. Check that [^\n]*\n\ngiving up after 2 attempts\n$/)
  })

  test('that rejects the login is an immediate error', async () => {
    const login = { username: 'conveyor', password: 'right-password' }
    await using registry = await startRegistry({ htpasswd: login })
    const auth = Buffer.from('conveyor:wrong-password').toString('base64')
    await using folder = await tempDir()
    await writeFile(
      join(folder.path, 'config.json'),
      JSON.stringify({ auths: { [registry.host]: { auth } } }),
    )
    await using server = await start('0s', { REGISTRY: registry.host, DOCKER_CONFIG: folder.path })
    const repository = 'acme/locked'
    const sha = await commit(repository)
    const { status, build, log } = await pushToEnd(world, server, { repository, sha })
    const error = `pushing ${registry.host}/acme/locked:${sha.slice(0, 7)} failed: the registry requires a login, or rejected the credentials (UNAUTHORIZED authentication required). Run \`docker login ${registry.host}\` as the user that Conveyor runs as, with an account that has write access to acme/locked`
    expect(status).toMatchObject({ state: 'error', description: statusDescription(error) })
    expect(build).toMatchObject({ state: 'failed', error, error_kind: 'unauthorized' })
    expect(log.endsWith(`\nerror: ${error}\n`)).toBe(true)
    expect(log + server.stdout() + server.stderr()).not.toContain('wrong-password')
  })
})

describe('a registry that refuses', () => {
  test('for some seconds is left alone between the attempts, and then it is an error', async () => {
    await using front = await frontOf(world.registry.host, (req, res) => {
      if (!req.url?.startsWith('/v2/acme/')) return false
      res.writeHead(429, { 'retry-after': '2' })
      res.end('{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}')
      return true
    })
    const repository = 'acme/eager'
    const sha = await commit(repository)
    await using server = await start('0s', { REGISTRY: front.host })
    const { status, build, log } = await pushToEnd(world, server, { repository, sha })
    expect(status.state).toBe('error')
    expect(build).toMatchObject({ state: 'failed', error_kind: 'unavailable' })
    expect(build.error).toMatch(
      /the registry is rate-limiting requests \(.*TOOMANYREQUESTS slow down, retry after 2 s\)/,
    )
    expect(log).toMatch(/\ntrying again in 2 s\n/)
    expect(log).toMatch(/\ngiving up after 2 attempts\n$/)
  })

  test('permanently is tried once, with a hint', async () => {
    const { front, faults } = await faultyRegistry(world.registry.host)
    await using registry = front
    faults.set('acme', { request: 'POST upload', answer: 'no repository' })
    const repository = 'acme/unmade'
    const sha = await commit(repository)
    await using server = await start('0s,0s', { REGISTRY: registry.host })
    const { status, build, log } = await pushToEnd(world, server, { repository, sha })
    expect(status.state).toBe('error')
    expect(build.error).toMatch(
      /^pushing \S+ failed: the registry has no repository acme\/unmade \(NAME_UNKNOWN .*\)\. Create the repository acme\/unmade in /,
    )
    expect(log).not.toMatch(/again|retrying/)
    const uploads = registry.seen.filter(({ method }) => method === 'POST')
    // One per layer.
    expect(uploads.length).toBeLessThanOrEqual(3)
  })
})

describe('the engine', () => {
  test('that is not running is an error that says what to start', async () => {
    const repository = 'acme/no-engine'
    const sha = await commit(repository)
    await using server = await start('0s', { DOCKER_HOST: 'unix:///nonexistent/docker.sock' })
    const { status, build, log } = await pushToEnd(world, server, { repository, sha })
    const error =
      'cannot reach the Docker engine: connect ENOENT /nonexistent/docker.sock. Start the Docker engine, or set DOCKER_HOST to one that is running'
    expect(status).toMatchObject({ state: 'error', description: error })
    expect(build).toMatchObject({ state: 'failed', error, error_kind: 'unavailable' })
    expect(log.endsWith(`\nerror: ${error}\n\ngiving up after 2 attempts\n`)).toBe(true)
  })

  test('that is restarted during a build, builds in a later attempt', async () => {
    await using gate = await startGate()
    await using folder = await tempDir('conveyor-engine-')
    await using own = await startPrivateEngine(folder.path)
    const image = await engine().docker.getImage(BASE).get()
    await docker(own).loadImage(image)
    // The last ones leave the engine time to start.
    await using server = await start('0s,0s,1s,2s,5s,10s,20s,30s,30s', { DOCKER_HOST: own.dockerHost })
    const repository = 'acme/interrupted'
    const sha = await commit(repository, `${DOCKERFILE}RUN ${gate.command()}\n`)
    const ending = pushToEnd(world, server, { repository, sha })
    await gate.arrival()
    await own.stop('SIGKILL')
    await server.waitFor(/trying again in 1 s/)
    gate.open()
    await own.start()

    const { status, build, log } = await ending
    expect(status.state).toBe('success')
    expect(build.state).toBe('succeeded')
    expect(log).toMatch(
      /\nerror: [^\n]*the Docker engine[^\n]*\. Start the Docker engine, or set DOCKER_HOST to one that is running\n/,
    )
    expect(log).toMatch(/\nattempt ([3-9]|10) of 10\n/)
  })
})

describe('GitHub', () => {
  test('that answers 500 is retried, and the build does not wait for it', async () => {
    const repository = 'acme/flaky-github'
    const sha = await commit(repository)
    await using server = await start('0s')
    world.github.failAlways(500)
    const id = await world.push(server, { repository, sha })
    expect(await buildLog(server, id)).toMatch(/\nimage \S+\n$/)
    await server.waitFor(
      /cannot set the commit status of acme\/flaky-github@\w{7}: GitHub answered 500 \(Planned failure\); retrying in 1 s/,
    )
    expect(world.github.statuses.filter((one) => one.sha === sha)).toEqual([])

    world.github.failAlways(null)
    world.github.failNext(1, 500)
    await world.github.waitForStatus((one) => one.sha === sha && one.state === 'success')
  })

  test('that does not know a commit yet is retried, while the build continues', async () => {
    const repository = 'acme/just-pushed'
    const sha = await commit(repository)
    await using server = await start('0s')
    const body = { message: `No commit found for SHA: ${sha}`, documentation_url: '', status: '422' }
    world.github.failNext(2, 422, { body })
    world.github.failNext(2, 404)
    const id = await world.push(server, { repository, sha })
    expect(await buildLog(server, id)).toMatch(/\nimage \S+\n$/)
    await world.github.waitForStatus((one) => one.sha === sha && one.state === 'success')
    expect(server.stderr()).toMatch(/No commit found for SHA: \w+\); retrying for several minutes/)
  })

  test('gets a pending status even for a build that fails at once', async () => {
    const repository = 'acme/nothing-to-build'
    const git = await world.git.create(repository)
    const built = await git.commit({ Dockerfile: 'FROM scratch\nCOPY Dockerfile /\n' })
    const sha = await git.commit({ Dockerfile: null })
    await using server = await start('0s')
    // One that never had a Dockerfile would get no status at all.
    await pushToEnd(world, server, { repository, sha: built })
    await pushToEnd(world, server, { repository, sha })
    const states = world.github.statuses.filter((one) => one.sha === sha).map(({ state }) => state)
    expect(states).toEqual(['pending', 'failure'])
  })

  test('that refuses statuses is reported on stderr, once for each, and the build continues', async () => {
    const repository = 'acme/forbidden'
    const sha = await commit(repository)
    await using server = await start('0s')
    world.github.failAlways(403)
    const id = await world.push(server, { repository, sha })
    expect(await buildLog(server, id)).toMatch(/\nimage \S+\n$/)
    await server.waitFor(/commit status "success"/)
    world.github.failAlways(null)
    const said = (state: string) =>
      `commit status "${state}": cannot set the commit status of acme/forbidden@${sha.slice(0, 7)}: GitHub denied permission: 403 (Planned failure). Grant the token in GITHUB_TOKEN the scope repo:status (classic) or the permission "Commit statuses: write" for this repository\n`
    expect(server.stderr()).toContain(said('pending'))
    expect(server.stderr()).toContain(said('success'))
    expect(world.github.statuses.filter((one) => one.sha === sha)).toEqual([])
  })
})
