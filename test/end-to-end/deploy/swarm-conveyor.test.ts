import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildConveyorImage } from '../../../src/lib/bootstrap/builder-image.ts'
import type { BuildRequest } from '../../../src/lib/core/build.ts'
import { runInContainer } from '../../../src/lib/pipeline/run-in-container.ts'
import { registryClient } from '../../../src/lib/registry/client.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import type { CredentialStore } from '../../../src/lib/registry/registry.ts'
import type { RunInput } from '../../../src/lib/runner/runner.ts'
import { swarmRunner } from '../../../src/lib/runner/swarm/runner.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { failure } from '../../runner/runner.contract.ts'
import { startSwarm, type TestSwarm } from '../../support/engines/swarm.ts'
import { NO_HISTORY } from '../../support/git/known-history.ts'
import { type GitServer, startGitServer } from '../../support/git/server.ts'
import { startGitHubDouble } from '../../support/github/double.ts'
import { conveyorImageArguments } from '../../support/images/conveyor-image.ts'
import { PUSHING_SCRIPT } from '../../support/images/pushing-script.ts'
import { memoryLog } from '../../support/memory-log.ts'
import { forward } from '../../support/network/forward.ts'
import { runConveyor, runningCount, startConveyor } from '../../support/processes.ts'
import { startRegistry, type TestRegistry } from '../../support/registry/registry.ts'
import { tempDir } from '../../support/temp.ts'

/** Whole builds on a Swarm, with Conveyor's own builder image as described in docs/deploy-swarm.md. */

const IMAGE = 'conveyor-test/conveyor-builder:swarm'
const LOGIN = { username: 'robot', password: 'secret-of-the-robot' }

const resources = new AsyncDisposableStack()
let swarm: TestSwarm
let git: GitServer
let registry: TestRegistry
/** The address at which the nodes reach it. */
let gitHost: string
let registryHost: string
beforeAll(async () => {
  swarm = resources.use(await startSwarm())
  git = resources.use(await startGitServer())
  registry = resources.use(await startRegistry({ htpasswd: LOGIN }))
  gitHost = resources.use(await forward(swarm.address, new URL(git.url).host)).host
  registryHost = resources.use(await forward(swarm.address, registry.host)).host

  const { docker } = swarm.worker
  const buildArgs = await conveyorImageArguments(docker)
  await buildConveyorImage({ docker, buildArgs, image: IMAGE, network: 'host', log: () => {} })

  const auth = base64(`${LOGIN.username}:${LOGIN.password}`)
  const Data = base64(JSON.stringify({ auths: { [registryHost]: { auth } } }))
  await swarm.manager.docker.createSecret({ Name: 'conveyor.config.json', Data })
})
afterAll(() => resources.disposeAsync())

function start(build: Pick<RunInput, 'repository' | 'sha'>) {
  const log = memoryLog()
  const builder = swarmRunner({
    docker: swarm.manager.docker,
    image: IMAGE,
    credentials: { forHost: async () => null },
    network: 'host',
    binds: [
      `${swarm.worker.engine.dockerHost.replace('unix://', '')}:/var/run/docker.sock`,
      'conveyor-mirrors:/var/lib/conveyor',
    ],
    environment: {
      REGISTRY: `http://${registryHost}`,
      GIT_URL: `http://${gitHost}/{repository}.git`,
      BUILD_NETWORK: 'host',
    },
    constraints: [`node.id==${swarm.worker.id}`],
  })
  const whole = {
    buildId: randomUUID(),
    attempt: 1,
    branch: 'main',
    dry: false,
    cache: true,
    cacheNamespace: 'its-own',
    ...build,
  }
  return { log, ended: builder.run(whole, { log, signal: new AbortController().signal }) }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}

async function digest(repository: string, tag: string): Promise<string | null> {
  const authorization = `Basic ${base64(`${LOGIN.username}:${LOGIN.password}`)}`
  const accept = 'application/vnd.docker.distribution.manifest.v2+json'
  const url = `${registry.url}/v2/${repository}/manifests/${tag}`
  const answer = await fetch(url, { method: 'HEAD', headers: { authorization, accept } })
  return answer.status === 404 ? null : answer.headers.get('docker-content-digest')
}

test("a build in the node's engine, with the Swarm's login, and with the node's mirror and cache for the next one", async () => {
  const repository = 'acme/web'
  const repo = await git.create(repository)
  const Dockerfile = 'FROM conveyor-test/busybox:1\nCOPY base /app/\nRUN cat /app/base\nCOPY . /app\n'
  const sha = await repo.commit({ Dockerfile, base: `base ${randomUUID()}`, message: 'hello' })
  const first = start({ repository, sha })
  await first.ended
  expect(first.log.text).toContain(`tags ${sha}, main, latest\n`)
  const made = await digest(repository, sha)
  expect(made).toMatch(/^sha256:/)
  expect(await digest(repository, 'latest')).toBe(made)
  expect(first.log.text).not.toContain(LOGIN.password)

  const next = start({ repository, sha: await repo.commit({ message: 'hello again' }) })
  await next.ended
  expect(next.log.text).toMatch(/fetched 3 objects/)
  expect(next.log.text).toMatch(/[1-9] of \d steps cached/)
  expect(await digest(repository, 'main')).not.toBe(made)
})

test('`conveyor build` on a server with --builder swarm', async () => {
  await using github = await startGitHubDouble({ token: 'ghp_of-the-swarm' })
  await using folder = await tempDir()
  const logins = JSON.stringify({
    auths: { [registryHost]: { auth: base64(`${LOGIN.username}:${LOGIN.password}`) } },
  })
  await writeFile(`${folder.path}/config.json`, logins)
  const repository = 'acme/swarm-cli'
  const repo = await git.create(repository)
  const sha = await repo.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nCOPY . /app\n' })
  const socket = swarm.worker.engine.dockerHost.replace('unix://', '')
  await using server = await startConveyor(
    [
      ...['server', '--builder', 'swarm', '--builder.image', IMAGE, '--builder.network', 'host'],
      ...[
        '--builder.mount',
        `${socket}:/var/run/docker.sock`,
        '--builder.mount',
        'conveyor-mirrors:/var/lib/conveyor',
      ],
      ...['--builder.constraint', `node.id==${swarm.worker.id}`, '--build.network', 'host'],
    ],
    {
      env: {
        ...{ PORT: '0', HOST: '127.0.0.1', DATA_DIR: folder.path, DOCKER_CONFIG: folder.path },
        DOCKER_HOST: swarm.manager.engine.dockerHost,
        ...{ GITHUB_URL: github.url, GITHUB_TOKEN: 'ghp_of-the-swarm' },
        ...{ GIT_URL: `http://${gitHost}/{repository}.git`, REGISTRY: `http://${registryHost}` },
      },
    },
  )
  const built = await runConveyor(['build', `${repository}:${sha}`, '--url', server.url])
  expect(built.stderr).toContain('COPY . /app')
  expect(built.stdout).toBe(`${registryHost}/${repository}@${await digest(repository, sha)}\n`)
  expect(built.code).toBe(0)
  const status = await github.waitForStatus((one) => one.sha === sha && one.state !== 'pending')
  expect(status.state).toBe('success')
  expect(await swarm.manager.docker.listServices()).toEqual([])

  const command = `sleep ${5_000_000 + process.pid}`
  const sleeping = await repo.commit({ Dockerfile: `FROM conveyor-test/busybox:1\nRUN ${command}\n` })
  const asked = await runConveyor(['build', `${repository}:${sleeping}`, '--detach', '--url', server.url])
  const id = /[0-9a-f-]{36}/.exec(asked.stdout + asked.stderr)?.[0]
  await expect.poll(() => runningCount(command)).toBe(1)
  const cancelled = await runConveyor(['cancel', String(id), '--url', server.url])
  expect(cancelled.code).toBe(0)
  await expect.poll(() => runningCount(command)).toBe(0)
  const last = await github.waitForStatus((one) => one.sha === sleeping && one.state === 'error')
  expect(last.description).toMatch(/^Cancelled by \S+\.$/)
  await expect.poll(() => swarm.manager.docker.listServices()).toEqual([])
})

test('a failed build reports the reason', async () => {
  const repo = await git.create('acme/broken')
  const sha = await repo.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN exit 7\n' })
  const { log, ended } = start({ repository: 'acme/broken', sha })
  expect(await failure(ended)).toMatchObject({ kind: 'build_failed' })
  expect(log.text).toContain('RUN exit 7 failed with exit code 7')
  expect(await digest('acme/broken', sha)).toBeNull()
})

test('conveyor doctor counts the nodes that accept builds', async () => {
  const env = { DOCKER_HOST: swarm.manager.engine.dockerHost, BUILDER: 'swarm', REGISTRY: registry.host }
  const said = async () => {
    const { stdout } = await runConveyor(['doctor', '--json', '--response-timeout', '1m'], { env })
    return (JSON.parse(stdout) as { part: string }[]).find(({ part }) => part === 'swarm')
  }
  expect(await said()).toMatchObject({ level: 'ok', found: '2 of 2 nodes can run builds' })
  await swarm.change(swarm.worker, { Availability: 'drain' })
  try {
    expect(await said()).toMatchObject({ level: 'warning', found: '1 of 2 nodes can run builds' })
  } finally {
    await swarm.change(swarm.worker, { Availability: 'active' })
  }
})

test('a build whose node is disconnected is published and stored once, from the other node', async () => {
  await using open = await startRegistry()
  await using front = await forward(swarm.address, open.host)
  await using folder = await tempDir()
  await using releaser = new AsyncDisposableStack()
  const store = releaser.adopt(await sqliteBuildStore({ file: `${folder.path}/conveyor.db` }), (it) =>
    it.close(),
  )
  const credentials: CredentialStore = { forHost: async () => null }
  const registryOptions = { credentials, insecureHosts: [front.host], mayBeLocal: () => true }
  const client = releaser.adopt(registryClient(registryOptions), (it) => it.close())
  const image = 'conveyor-test/pushing:swarm'
  const waits = "trap 'exit 143' TERM; while :; do sleep 0.2; done"
  await swarm.makeImage(image, {
    script: `hostname; case $(hostname) in two-*) ${waits};; esac\n${PUSHING_SCRIPT}`,
  })
  await swarm.setHeartbeat(3)

  const sha = '1'.repeat(40)
  const request = {
    repository: 'acme/lost',
    sha,
    ref: { kind: 'branch', name: 'main' },
    defaultBranch: 'main',
  }
  const accepted = {
    ...request,
    cache: true,
    source: { kind: 'webhook', delivery: randomUUID() },
  } as BuildRequest
  const build = await store.claim((await store.accept(accepted)).build.id)
  if (build === null || typeof build === 'string') throw new Error('it was not to be had')

  await swarm.change(swarm.worker, { Labels: { builder: 'true' } })
  const log = memoryLog()
  const parts = {
    ...{ store, registry: client, latest: 'always' as const, dry: false, history: NO_HISTORY },
    cacheNamespace: () => 'its-own',
    names: { image: (repository: string) => `${front.host}/${repository}`, tag: tagForRef },
    container: swarmRunner({
      ...{ docker: swarm.manager.docker, image, credentials, network: 'host' },
      ...{ environment: { REGISTRY: front.host }, constraints: ['node.labels.builder==true'] },
    }),
  }
  const running = runInContainer(build, parts, { log, signal: new AbortController().signal })
  running.catch(() => {}) // awaited below
  await expect.poll(() => log.text).toContain(swarm.worker.name)
  await swarm.change(swarm.manager, { Labels: { builder: 'true' } })
  await swarm.worker.cutOff()
  try {
    const published = await running
    expect(log.text).toContain('(attempt 2 of 3)')
    expect(published).toBe(`${front.host}/acme/lost@${await client.head(`${front.host}/acme/lost`, sha)}`)
    expect(await store.get(build.id)).toMatchObject({ state: 'succeeded' })
    expect((await store.artifactOf(build.id))?.image).toBe(published)
    expect(log.text.split('\n').filter((line) => line === 'pushed latest')).toHaveLength(1)
  } finally {
    await swarm.worker.reconnect()
  }
})
