import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import Docker, { type ContainerCreateOptions } from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { CredentialStore } from '../../src/lib/registry/registry.ts'
import { type DockerRunnerOptions, dockerRunner } from '../../src/lib/runner/docker.ts'
import type { RunInput } from '../../src/lib/runner/runner.ts'
import { docker as dockerOf, startPrivateEngine } from '../support/engines/engine.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE, ensureBaseImages } from '../support/images/base-images.ts'
import { finished, makeBuilderImage } from '../support/images/builder-images.ts'
import { tar } from '../support/images/tar.ts'
import { memoryLog } from '../support/memory-log.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { failure, type RunnerSubject, runnerContract } from './runner.contract.ts'

const NOBODY: CredentialStore = { forHost: async () => null }

/** A container like the one that `conveyor bootstrap` makes, with its own name. */
async function makeDataContainer(name: string, key: string): Promise<void> {
  const container = await engine().docker.createContainer({
    name,
    Image: BUSYBOX_IMAGE,
    Volumes: { '/var/run/conveyor': {} },
  })
  const files = tar([
    { path: '.ssh', directory: true, mode: 0o700 },
    { path: '.ssh/id_rsa', content: key, mode: 0o600 },
  ])
  await container.putArchive(files, { path: '/var/run/conveyor' })
}

runnerContract('dockerRunner', async (): Promise<RunnerSubject> => {
  const { docker, network } = engine()
  const dataContainer = `conveyor-test-data-${randomUUID()}`
  const secret = `the key ${randomUUID()}`
  await makeDataContainer(dataContainer, secret)
  const images: string[] = []
  return {
    secret,
    makeImage: async (name, image) => {
      images.push(name)
      await makeBuilderImage(docker, name, image)
    },
    builder: (image) => dockerRunner({ docker, image, credentials: NOBODY, dataContainer, network }),
    async remains(buildId) {
      const containers = await docker.listContainers({ all: true })
      return containers.flatMap(({ Names }) => Names).filter((name) => name.includes(buildId))
    },
    volumes: async () => (await docker.listVolumes()).Volumes.map(({ Name }) => Name),
    async [Symbol.asyncDispose]() {
      await docker.getContainer(dataContainer).remove({ force: true, v: true })
      for (const image of images) await docker.getImage(image).remove({ force: true })
    },
  }
})

describe('dockerRunner', () => {
  const images: string[] = []
  let docker: Docker
  let network: string | null
  beforeAll(() => {
    ;({ docker, network } = engine())
  })
  afterAll(async () => {
    for (const image of images) await docker.getImage(image).remove({ force: true })
  })

  async function makeImage(script: string): Promise<string> {
    const name = `conveyor-test/builder:${randomUUID()}`
    await makeBuilderImage(docker, name, { script })
    images.push(name)
    return name
  }

  const io = (signal = new AbortController().signal) => ({ log: memoryLog(), signal })
  const build = (rest: Partial<RunInput> = {}): RunInput => ({
    ...{ buildId: randomUUID(), attempt: 1, repository: 'acme/web', sha: 'a'.repeat(40), branch: 'main' },
    ...{ dry: false, cache: true, cacheNamespace: 'its-own' },
    ...rest,
  })
  const builder = (image: string, rest: Partial<DockerRunnerOptions> = {}) =>
    dockerRunner({ docker, image, credentials: NOBODY, dataContainer: null, network, ...rest })

  test('a missing data container is named, with the command that creates it', async () => {
    const image = await makeImage('true')
    const subject = builder(image, { dataContainer: 'conveyor-test-no-such-data' })
    const error = await failure(subject.run(build(), io()))
    expect(error).toMatchObject({ kind: 'invalid', retryable: false })
    expect(error.advice).toMatch(/no container named conveyor-test-no-such-data\. .*`conveyor bootstrap`/)
  })

  test('passes additional variables and mounts from the options, which cannot override the contract', async () => {
    const image = await makeImage('env; cat /mounted')
    await using folder = await tempDir()
    await writeFile(`${folder.path}/file`, 'from the host\n')
    const subject = builder(image, {
      environment: { REGISTRY: 'registry.example', SHA: 'not this one' },
      binds: [`${folder.path}/file:/mounted:ro`],
    })
    const run = io()
    const one = build()
    await subject.run(one, run)
    expect(run.log.text).toContain('REGISTRY=registry.example\n')
    expect(run.log.text).toContain(`SHA=${one.sha}\n`)
    expect(run.log.text).toContain('from the host\n')
  })

  test('a container that fails at once is reported, whatever times the engine records', async () => {
    const image = await makeImage('exit 7')
    const errors = await Promise.all(
      Array.from({ length: 12 }, () => failure(builder(image).run(build(), io()))),
    )
    expect(errors.map(({ kind }) => kind)).toEqual(Array.from({ length: 12 }, () => 'build_failed'))
  })

  test('is privileged only if configured', async () => {
    const image = await makeImage('true')
    const asked: unknown[] = []
    const recording = new Proxy(docker, {
      get: (target, name) =>
        name === 'createContainer'
          ? (options: ContainerCreateOptions) => {
              asked.push(options.HostConfig?.Privileged)
              return target.createContainer(options)
            }
          : Reflect.get(target, name),
    })
    await builder(image, { docker: recording }).run(build(), io())
    // Not every machine allows its engine to run a privileged container.
    await builder(image, { docker: recording, privileged: true })
      .run(build(), io())
      .catch((error) => expect(error).toBeInstanceOf(ConveyorError))
    expect(asked).toEqual([false, true])
  })

  test('the contents of a data container outlive the builds that use it', async () => {
    const image = await makeImage('cat /var/run/conveyor/.ssh/id_rsa')
    const dataContainer = `conveyor-test-data-${randomUUID()}`
    await makeDataContainer(dataContainer, 'still there')
    try {
      for (let round = 0; round < 2; round++) {
        const run = io()
        await builder(image, { dataContainer }).run(build(), run)
        expect(run.log.text).toContain('still there')
      }
    } finally {
      await docker.getContainer(dataContainer).remove({ force: true, v: true })
    }
  })

  test('an image that the engine does not have is pulled, with the login for its registry', async () => {
    const login = { username: 'robot', password: 'secret-of-the-robot' }
    await using registry = await startRegistry({ htpasswd: login })
    const [repo, tag] = [`${registry.host}/team/builder`, 'v1']
    const name = `${repo}:${tag}`
    await docker.getImage(await makeImage('echo pulled and run')).tag({ repo, tag })
    const authconfig = { ...login, serveraddress: registry.host }
    await finished(docker, await docker.getImage(name).push({ authconfig }))
    await docker.getImage(name).remove()

    const refused = await failure(builder(name).run(build(), io()))
    expect(refused).toMatchObject({ kind: 'invalid', retryable: false })
    expect(refused.advice).toMatch(/builder image .*team\/builder:v1 was not found: .*docker login/)

    const run = io()
    await builder(name, { credentials: { forHost: async () => login } }).run(build(), run)
    images.push(name)
    expect(run.log.text).toBe(`pulling the builder image ${name}\npulled and run\n`)
    const absent = `${registry.host}/team/builder:v2`
    const error = await failure(
      builder(absent, { credentials: { forHost: async () => login } }).run(build(), io()),
    )
    expect(error.kind).toBe('invalid')
  })

  test('an entrypoint that cannot be started and a missing network are errors of the settings', async () => {
    const noNetwork = await failure(
      builder(await makeImage('true'), { network: 'conveyor-test-nowhere' }).run(build(), io()),
    )
    expect(noNetwork).toMatchObject({ kind: 'invalid', retryable: false })
    expect(noNetwork.message).toContain('conveyor-test-nowhere')

    const name = `conveyor-test/builder:${randomUUID()}`
    await makeBuilderImage(docker, name, { script: '', dockerfile: 'RUN rm /bin/sh' })
    images.push(name)
    const error = await failure(builder(name).run(build(), io()))
    expect(error).toMatchObject({ kind: 'invalid', retryable: false })
    expect(error.message).toContain('/bin/sh')
  })

  test('an unreachable engine is a retryable error', async () => {
    const nowhere = new Docker({ socketPath: '/nonexistent/docker.sock' })
    const error = await failure(builder('any', { docker: nowhere }).run(build(), io()))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.advice).toMatch(/cannot reach the Docker engine.*set DOCKER_HOST/)
  })

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'an engine that ends with %s during the build is a retryable error, and the next attempt cleans up',
    async (signal) => {
      await using folder = await tempDir()
      await using own = await startPrivateEngine(folder.path)
      const there = dockerOf(own)
      await ensureBaseImages(there)
      const image = 'conveyor-test/builder:dies'
      await makeBuilderImage(there, image, {
        script: 'echo cache is $CACHE; [ $CACHE = off ] || exec sleep 1000',
      })
      const subject = builder(image, { docker: there, network: own.network })
      const one = build()
      const run = io()
      const running = failure(subject.run(one, run))
      await expect.poll(() => run.log.text).toContain('cache is on')
      await own.stop(signal)
      expect(await running).toMatchObject({ kind: 'unavailable', retryable: true })

      await own.start()
      const again = io()
      await subject.run({ ...one, cache: false }, again)
      expect(again.log.text).toBe('cache is off\n')
      expect(await there.listContainers({ all: true })).toEqual([])
    },
  )
})
