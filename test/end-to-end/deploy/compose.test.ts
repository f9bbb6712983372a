import { randomUUID } from 'node:crypto'
import { appendFile, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { type Compose, composeIn } from '../../support/engines/compose.ts'
import { docker as dockerOf, type PrivateEngine, startPrivateEngine } from '../../support/engines/engine.ts'
import { createGitRepository, type GitRepository } from '../../support/git/repository.ts'
import { ensureBaseImages } from '../../support/images/base-images.ts'
import { conveyorImageArguments } from '../../support/images/conveyor-image.ts'
import { MANIFEST_TYPES } from '../../support/images/pushed-image.ts'
import { ensureServiceImages } from '../../support/images/service-images.ts'
import { freePort, projectRoot, runConveyor, start } from '../../support/processes.ts'
import { type TempDir, tempDir } from '../../support/temp.ts'

/**
 * The actual docker-compose.yml, built and run by Docker Compose in a separate real engine, which is killed and
 * restarted with it. Only pulled images are different: the base images are made from files of this machine, by means of
 * the variables that the file has for them.
 */

const PROJECT = `conveyor-test-compose-${process.pid}`
const DATA = `${PROJECT}-data`
const IMAGE = `conveyor-test/compose:${process.pid}`

let engine: PrivateEngine
let docker: Docker
let folder: TempDir
let compose: Compose
let url: string
let registry: string
let repo: GitRepository

beforeAll(async () => {
  folder = await tempDir()
  engine = await startPrivateEngine(join(folder.path, 'engine'))
  docker = dockerOf(engine)
  await ensureBaseImages(docker)
  const environment = { DOCKER_HOST: engine.dockerHost, DOCKER_CONFIG: join(folder.path, 'docker') }
  await mkdir(environment.DOCKER_CONFIG)
  await copyFile(join(projectRoot, 'docker-compose.yml'), join(folder.path, 'docker-compose.yml'))
  repo = await createGitRepository(join(folder.path, 'repositories/acme/web.git'), '')
  compose = composeIn(folder.path, PROJECT, { DOCKER_HOST: engine.dockerHost })

  const [port, registryPort] = [await freePort(), await freePort()]
  ;[url, registry] = [`http://127.0.0.1:${port}`, `localhost:${registryPort}`]
  const bootstrap = await runConveyor(
    ['bootstrap', '--no-image', '--builder.data', DATA, '--data-dir', join(folder.path, 'data')],
    { cwd: folder.path, env: environment },
  )
  expect(bootstrap.code, bootstrap.stdout).toBe(0)
  const { NODE_IMAGE, ...args } = await conveyorImageArguments(docker)
  const images = await ensureServiceImages(docker)
  const settings = {
    ...{ PORT: port, REGISTRY_PORT: registryPort, BUILDER_DATA: DATA, CONVEYOR_IMAGE: IMAGE, NODE_IMAGE },
    ...{ POSTGRES_IMAGE: images.postgres, REGISTRY_IMAGE: images.registry },
    ...{ GIT_URL: 'file:///repositories/{repository}.git', BUILD_NETWORK: engine.network ?? 'default' },
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`)
  await appendFile(join(folder.path, '.env'), lines.join(''))
  const build = { context: projectRoot, args, network: engine.network ?? 'default' }
  const volumes = [`${folder.path}/repositories:/repositories:ro`]
  const override = stringify({ services: { conveyor: { build, volumes } } })
  await writeFile(join(folder.path, 'docker-compose.override.yml'), override)
})

afterAll(async () => {
  await compose('down', '--volumes', '--timeout', '20')
  await engine[Symbol.asyncDispose]()
  await folder[Symbol.asyncDispose]()
})

const container = async (service: string) => {
  const filters = {
    label: [`com.docker.compose.project=${PROJECT}`, `com.docker.compose.service=${service}`],
  }
  const [found] = await docker.listContainers({ all: true, filters })
  return docker.getContainer(found?.Id ?? `none of ${service}`)
}

/** A login from the settings that bootstrap has written. */
async function login(): Promise<Record<string, string>> {
  const { BASIC_AUTH = '' } = parseEnv(await readFile(join(folder.path, '.env'), 'utf8'))
  return { authorization: `Basic ${Buffer.from(BASIC_AUTH).toString('base64')}` }
}

/** A new commit, built through the API. */
async function build(): Promise<{ sha: string; answer: string; message: string }> {
  const message = randomUUID()
  await giveRepository(process.getuid?.() ?? 0)
  const Dockerfile = 'FROM conveyor-test/busybox:1\nCOPY . /app\nRUN cat /app/message\n'
  const sha = await repo.commit({ Dockerfile, message })
  await giveRepository(1000)
  const body = JSON.stringify({ repository: 'acme/web', sha, branch: 'main' })
  const response = await fetch(`${url}/builds`, { method: 'POST', body, headers: await login() })
  return { sha, answer: await response.text(), message }
}

/** git serves a repository only to its owner: us, or the user in the image. */
async function giveRepository(uid: number): Promise<void> {
  if (process.getuid?.() !== 0) return
  await using chown = await start('chown', ['-R', `${uid}:${uid}`, join(folder.path, 'repositories')])
  expect(await chown.exited).toMatchObject({ code: 0 })
}

const digestOf = async (tag: string) => {
  const options = { method: 'HEAD', headers: { accept: MANIFEST_TYPES } }
  const answer = await fetch(`http://${registry}/v2/acme/web/manifests/${tag}`, options)
  return answer.headers.get('docker-content-digest')
}

const SERVICES = ['conveyor', 'postgres', 'registry']

const stateOf = async (service: string) => (await (await container(service)).inspect()).State

const healths = async () =>
  Object.fromEntries(
    await Promise.all(SERVICES.map(async (name) => [name, (await stateOf(name)).Health?.Status])),
  ) as Record<string, string>

const readyz = async () => {
  const answer = await fetch(`${url}/readyz`)
  return [answer.status, await answer.json()]
}

const HEALTHY = { conveyor: 'healthy', postgres: 'healthy', registry: 'healthy' }

async function expectWorks(): Promise<void> {
  await expect.poll(healths, { interval: 500 }).toEqual(HEALTHY)
  const { answer, sha } = await build()
  const image = answer.trimEnd().split('\n').at(-1)
  expect(image, answer).toMatch(new RegExp(`^${registry}/acme/web@sha256:`))
  for (const tag of [sha, 'main', 'latest']) expect(await digestOf(tag)).toBe(image?.split('@')[1])
}

describe('docker-compose.yml', () => {
  test('contains no secret, and reports missing settings before anything starts', async () => {
    const text = await readFile(join(projectRoot, 'docker-compose.yml'), 'utf8')
    const { services } = parse(text) as { services: Record<string, { environment?: Record<string, string> }> }
    const variables = Object.values(services).flatMap(({ environment = {} }) => Object.entries(environment))
    const secret = variables.filter(([name]) => /PASSWORD|SECRET|TOKEN|DATABASE_URL/.test(name))
    expect(secret.length).toBeGreaterThan(1)
    for (const [, value] of secret) expect(value).toMatch(/\$\{POSTGRES_PASSWORD:\?/)

    await using empty = await tempDir()
    await writeFile(join(empty.path, 'docker-compose.yml'), text)
    await copyFile(join(projectRoot, '.env.sample'), join(empty.path, '.env'))
    // One at a time, because which of two missing variables is named is random.
    const config = (env: Record<string, string>) => composeIn(empty.path, PROJECT, env)('config')
    await expect(config({ DOCKER_GID: '1' })).rejects.toThrow(
      /POSTGRES_PASSWORD.*not set\. Run make bootstrap/,
    )
    await expect(config({ POSTGRES_PASSWORD: 'x' })).rejects.toThrow(/DOCKER_GID.*stat -c %g/)
    await config({ POSTGRES_PASSWORD: 'x', DOCKER_GID: '1' })
  })

  test('is built and runs: server, database and registry are healthy, and the server is unprivileged', async () => {
    await compose('up', '--build', '--detach', '--wait')
    expect(await healths()).toEqual(HEALTHY)
    const { services } = parse(await readFile(join(projectRoot, 'docker-compose.yml'), 'utf8')) as {
      services: Record<string, { network_mode?: string }>
    }
    for (const { network_mode } of Object.values(services)) expect(network_mode).toBeUndefined()
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    // The port is published, so no client counts as this machine.
    expect((await fetch(`${url}/builds/x`)).status).toBe(401)
    expect((await fetch(`${url}/builds/x`, { headers: await login() })).status).toBe(404)
    const { State, HostConfig } = await (await container('conveyor')).inspect()
    const status = await readFile(`/proc/${State.Pid}/status`, 'utf8')
    expect(status).toMatch(/^Uid:\t1000\t1000\t/m)
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    expect(HostConfig.Privileged).toBe(false)
  })

  let first: Awaited<ReturnType<typeof build>>
  test("builds in the host's engine, and pushes to its own registry", async () => {
    first = await build()
    expect(first.answer).toContain(first.message)
    const image = first.answer.trimEnd().split('\n').at(-1)
    expect(image).toMatch(new RegExp(`^${registry}/acme/web@sha256:`))
    for (const tag of [first.sha, 'main', 'latest']) expect(await digestOf(tag)).toBe(image?.split('@')[1])
  })

  test('keeps builds, logs and images over a down and up', async () => {
    const digest = await digestOf('latest')
    await compose('down')
    await expect(fetch(`${url}/healthz`)).rejects.toThrow()
    await compose('up', '--detach', '--wait')
    const answer = await (
      await fetch(`${url}/builds/acme/web@${first.sha}`, { headers: await login() })
    ).json()
    expect(answer).toMatchObject({ state: 'succeeded', image: `${registry}/acme/web@${digest}` })
    const { id } = answer as { id: string }
    expect(await (await fetch(`${url}/logs/${id}`, { headers: await login() })).text()).toContain(
      first.message,
    )
    expect(await digestOf('latest')).toBe(digest)
    const next = await build()
    expect(await digestOf('latest')).not.toBe(digest)
    expect(next.answer).toContain(next.message)
  })

  test.each(SERVICES)('continues when %s is killed, and when it is restarted', async (service) => {
    const { Pid: pid, StartedAt: before } = await stateOf(service)
    process.kill(pid, 'SIGKILL')
    await expect.poll(async () => (await stateOf(service)).StartedAt).not.toBe(before)
    await expectWorks()
    await compose('restart', service)
    await expectWorks()
  })

  test('reports that builds do not work while the database is down, and that the server is alive', async () => {
    await compose('stop', 'postgres')
    await expect
      .poll(readyz)
      .toEqual([503, { status: 'unavailable', store: 'unavailable', queue: 'ok', engine: 'ok' }])
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    await expect
      .poll(async () => (await stateOf('conveyor')).Health?.Status, { interval: 500 })
      .toBe('unhealthy')
    await compose('start', 'postgres')
    await expectWorks()
    await expect.poll(readyz).toEqual([200, { status: 'ok', store: 'ok', queue: 'ok', engine: 'ok' }])
  })

  test.each(['SIGTERM', 'SIGKILL'] as const)('comes back after the engine ended by %s', async (signal) => {
    await engine.stop(signal)
    await expect(fetch(`${url}/healthz`)).rejects.toThrow()
    await engine.start()
    await expectWorks()
  })

  test('the server shuts down cleanly', async () => {
    const server = await container('conveyor')
    await compose('stop', 'conveyor')
    expect((await server.inspect()).State.ExitCode).toBe(0)
  })
})
