import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildConveyorImage, CONTEXT } from '../../../src/lib/bootstrap/builder-image.ts'
import { type DockerRunnerOptions, dockerRunner } from '../../../src/lib/runner/docker.ts'
import type { RunInput } from '../../../src/lib/runner/runner.ts'
import { failure } from '../../runner/runner.contract.ts'
import { type GitServer, startGitServer } from '../../support/git/server.ts'
import { engine } from '../../support/global-setup.ts'
import { finished } from '../../support/images/builder-images.ts'
import { conveyorImageArguments } from '../../support/images/conveyor-image.ts'
import { tar } from '../../support/images/tar.ts'
import { memoryLog } from '../../support/memory-log.ts'
import { freePort, projectRoot } from '../../support/processes.ts'
import { startRegistry, type TestRegistry } from '../../support/registry/registry.ts'

/** The images that the project's Dockerfile makes, from dist and node_modules in this checkout. */

const LOGIN = { username: 'robot', password: 'secret-of-the-robot' }
const BUILDER = `conveyor-test/conveyor-builder:${process.pid}`
const SERVER = `conveyor-test/conveyor-server:${process.pid}`
const DATA = `conveyor-test-data-${process.pid}`
const CACHE = `conveyor-test-cache-${process.pid}`

let docker: Docker
let git: GitServer
let registry: TestRegistry
beforeAll(async () => {
  ;({ docker } = engine())
  ;[git, registry] = await Promise.all([startGitServer(), startRegistry({ htpasswd: LOGIN })])
  const buildArgs = await conveyorImageArguments(docker)
  const options = { docker, buildArgs, network: engine().network, log: () => {} }
  await buildConveyorImage({ ...options, image: BUILDER })
  await buildConveyorImage({ ...options, image: SERVER, target: 'conveyor' })

  const data = await docker.createContainer({
    ...{ name: DATA, Image: BUILDER, Volumes: { '/var/run/conveyor': {} } },
  })
  const auth = Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')
  const config = JSON.stringify({ auths: { [registry.host]: { auth } } })
  const files = [
    { path: '.docker', directory: true, mode: 0o700 } as const,
    { path: '.docker/config.json', content: config, mode: 0o600 },
  ]
  await data.putArchive(tar(files), { path: '/var/run/conveyor' })
})
afterAll(async () => {
  await docker.getContainer(DATA).remove({ force: true, v: true })
  for (const image of [SERVER, BUILDER]) await docker.getImage(image).remove({ force: true })
  const { Volumes } = await docker.listVolumes()
  if (Volumes.some(({ Name }) => Name === CACHE)) await docker.getVolume(CACHE).remove()
  await registry[Symbol.asyncDispose]()
  await git[Symbol.asyncDispose]()
})

function builder(rest: Partial<DockerRunnerOptions> = {}) {
  const { dockerHost, network } = engine()
  const socket = dockerHost.replace('unix://', '')
  return dockerRunner({
    docker,
    network,
    image: BUILDER,
    credentials: { forHost: async () => null },
    dataContainer: DATA,
    binds: [`${socket}:/var/run/docker.sock`, `${CACHE}:/var/lib/conveyor`],
    environment: { REGISTRY: registry.host, GIT_URL: git.urlTemplate, BUILD_NETWORK: network ?? '' },
    ...rest,
  })
}

async function run(build: Partial<RunInput> & { repository: string; sha: string }, subject = builder()) {
  const log = memoryLog()
  const io = { log, signal: new AbortController().signal }
  const whole = {
    buildId: randomUUID(),
    attempt: 1,
    branch: 'main',
    dry: false,
    cache: true,
    cacheNamespace: 'its-own',
    ...build,
  }
  return { log, ended: subject.run(whole, io) }
}

async function digest(repository: string, tag: string): Promise<string | null> {
  const authorization = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')}`
  const accept = 'application/vnd.docker.distribution.manifest.v2+json'
  const url = `${registry.url}/v2/${repository}/manifests/${tag}`
  const answer = await fetch(url, { method: 'HEAD', headers: { authorization, accept } })
  return answer.status === 404 ? null : answer.headers.get('docker-content-digest')
}

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\nRUN cat /app/message\n'

describe('the builder image', () => {
  test('builds, pushes and tags with the mounted socket, and keeps the mirror for the next build', async () => {
    const repository = 'acme/web'
    const repo = await git.create(repository)
    const message = `hello from ${randomUUID()}` // different from any that the engine has in its cache
    const sha = await repo.commit({ Dockerfile: DOCKERFILE, message, other: 'x' })
    const first = await run({ repository: 'Acme/Web', sha, branch: 'feature/x' })
    await first.ended
    expect(first.log.text).toContain(message)
    expect(first.log.text).toMatch(/fetched 5 objects/)
    expect(first.log.text).toContain(`tags ${sha}, feature-x, latest\n`)
    const made = await digest(repository, sha)
    expect(made).toMatch(/^sha256:/)
    expect(await digest(repository, 'feature-x')).toBe(made)
    expect(await digest(repository, 'latest')).toBe(made)
    expect(first.log.text).not.toContain(LOGIN.password)

    const next = await run({ repository, sha: await repo.commit({ message: 'hello again' }) })
    await next.ended
    expect(next.log.text).toMatch(/fetched 3 objects/)
    expect(await digest(repository, 'main')).not.toBe(made)
  })

  test('fails when the Dockerfile does, with the reason in its output', async () => {
    const repo = await git.create('acme/broken')
    const sha = await repo.commit({ Dockerfile: `${DOCKERFILE}RUN exit 7\n`, message: 'm' })
    const { log, ended } = await run({ repository: 'acme/broken', sha })
    expect(await failure(ended)).toMatchObject({ kind: 'build_failed' })
    expect(log.text).toContain('RUN exit 7 failed with exit code 7')
    expect(await digest('acme/broken', sha)).toBeNull()
  })

  test('pushes nothing on a dry run, and rebuilds without the cache', async () => {
    const repo = await git.create('acme/dry')
    const sha = await repo.commit({ Dockerfile: DOCKERFILE, message: 'm' })
    const { log, ended } = await run({ repository: 'acme/dry', sha, dry: true, cache: false, branch: null })
    await ended
    expect(log.text).toContain(', no cache')
    expect(log.text).toContain('dry run')
    expect(await digest('acme/dry', sha)).toBeNull()
  })

  test('reports invalid settings', async () => {
    const { log, ended } = await run({ repository: 'not-a-repository', sha: 'main' })
    expect((await failure(ended)).message).toContain('exited with status 2')
    expect(log.text).toContain('not of the form owner/name')
  })

  test('is a base for the images of teams, which add steps around the build', async () => {
    const image = `conveyor-test/team-builder:${process.pid}`
    const script = '#!/bin/sh\necho "linting $REPOSITORY"\nconveyor builder || exit\necho "deploying $SHA"\n'
    const context = tar([
      { path: 'Dockerfile', content: `FROM ${BUILDER}\nCOPY team /team\nENTRYPOINT ["/team"]\n` },
      { path: 'team', content: script, mode: 0o755 },
    ])
    await finished(docker, await docker.buildImage(context, { t: image }))
    try {
      const repo = await git.create('acme/team')
      const sha = await repo.commit({ Dockerfile: DOCKERFILE, message: 'm' })
      const { log, ended } = await run({ repository: 'acme/team', sha }, builder({ image }))
      await ended
      expect(log.text).toMatch(/^linting acme\/team\n/)
      expect(log.text).toMatch(new RegExp(`\ndeploying ${sha}\n$`))
      expect(await digest('acme/team', sha)).not.toBeNull()
    } finally {
      await docker.getImage(image).remove({ force: true })
    }
  })

  test('stops a cancelled build', async () => {
    const repo = await git.create('acme/cancel')
    const sleeping = `sleep 1${process.pid}1`
    const sha = await repo.commit({
      Dockerfile: `${DOCKERFILE}RUN echo be''gun; ${sleeping}\n`,
      message: 'm',
    })
    const log = memoryLog()
    const abort = new AbortController()
    const own = { buildId: randomUUID(), attempt: 1, branch: null, cacheNamespace: 'its-own' }
    const build = { ...own, dry: false, cache: true }
    const running = builder().run({ ...build, repository: 'acme/cancel', sha }, { log, signal: abort.signal })
    const ended = expect(running).rejects.toThrow('enough')
    await expect.poll(() => log.text).toMatch(/ begun\n/)
    abort.abort(new Error('enough'))
    await ended
    expect(log.text).toContain('Error: the build was cancelled')
    // This machine's engine runs steps as processes of this machine.
    await expect.poll(() => processesWith(sleeping)).toEqual([])
  })
})

describe("the server's image", () => {
  test('runs without root, is healthy, and stops on SIGTERM', async () => {
    const port = await freePort()
    const container = await docker.createContainer({
      Image: SERVER,
      Env: [`PORT=${port}`, 'HOST=127.0.0.1', 'DOCKER_HOST=unix:///nowhere.sock'],
      Healthcheck: { Interval: 500_000_000 },
      HostConfig: { NetworkMode: engine().network ?? 'default' },
    })
    try {
      await container.start()
      await expect.poll(async () => (await container.inspect()).State.Health?.Status).toBe('healthy')
      await expectReaped(container)
      const { Config, State } = await container.inspect()
      expect(Config.User).toBe('1000:1000')
      expect(await readFile(`/proc/${State.Pid}/status`, 'utf8')).toMatch(/^Uid:\t1000\t/m)
      await container.stop({ t: 20 })
      const { ExitCode } = (await container.wait()) as { ExitCode?: number; StatusCode: number }
      expect(ExitCode ?? (await container.inspect()).State.ExitCode).toBe(0)
    } finally {
      await container.remove({ force: true, v: true })
    }
  })

  test('contains what it needs to run, and nothing of development, tests or the machine that built it', async () => {
    const container = await docker.createContainer({
      Image: SERVER,
      Entrypoint: ['find', '/app', '-maxdepth', '2', '-not', '-path', '/app/node_modules/*'],
      HostConfig: { NetworkMode: engine().network ?? 'default' },
    })
    try {
      const output = await container.attach({ stream: true, stdout: true })
      await container.start()
      let text = ''
      for await (const chunk of output) text += chunk.toString('latin1')
      const paths = [...text.matchAll(/\/app\/[\w./-]+/g)].map(([path]) => path).sort()
      expect(paths.filter((path) => !/^\/app\/(dist|\.compile-cache)\//.test(path))).toEqual([
        '/app/.compile-cache',
        '/app/bin',
        '/app/bin/run.js',
        '/app/dist',
        '/app/node_modules',
        '/app/oclif.manifest.json',
        '/app/package.json',
      ])
    } finally {
      await container.remove({ force: true, v: true })
    }
  })

  test('is built from the same files with docker build and conveyor bootstrap', async () => {
    const ignore = await readFile(join(projectRoot, '.dockerignore'), 'utf8')
    const kept = [...ignore.matchAll(/^!(.+)$/gm)].map(([, path]) => path)
    expect(['Dockerfile', ...kept]).toEqual(CONTEXT)
    expect(ignore).toMatch(/^\*$/m)
  })
})

/** An orphaned child leaves nothing behind when it ends. */
async function expectReaped(container: Docker.Container): Promise<void> {
  const orphan = `sleep 100000.${process.pid}`
  const exec = await container.exec({ Cmd: ['sh', '-c', `${orphan} & exit 0`] })
  await exec.start({ Detach: true })
  let found: string[] = []
  await expect
    .poll(async () => {
      found = await orphaned(orphan)
      return found
    })
    .toHaveLength(1)
  const [pid] = found
  process.kill(Number(pid), 'SIGKILL')
  // A process that is not reaped stays in the table, without a command line. `docker top` does not show it.
  const isThere = () =>
    readFile(`/proc/${pid}/stat`).then(
      () => true,
      () => false,
    )
  await expect.poll(isThere).toBe(false)
}

/** The process itself, without the shell that started it. */
async function orphaned(command: string): Promise<string[]> {
  const found = await processesWith(command)
  const names = await Promise.all(found.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')))
  return found.filter((_, i) => names[i]?.trim() === 'sleep')
}

/** Ids of processes whose command line contains `text`. */
async function processesWith(text: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // The process may have ended in the meantime.
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.replaceAll('\0', ' ').includes(text)) found.push(pid)
  }
  return found
}
