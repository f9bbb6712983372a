import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildInput } from '../src/lib/builder/builder.ts'
import { engineBuilder } from '../src/lib/builder/engine-builder.ts'
import { builderContract, buildOf, failure, fresh, io, NOBODY } from './builder.contract.ts'
import { NODE_IMAGE } from './support/base-images.ts'
import { engine } from './support/global-setup.ts'
import { basicEnv, start } from './support/processes.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { tempDir } from './support/temp.ts'

const BASE = 'conveyor-test/busybox:1'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())

const builder = (credentials = NOBODY) =>
  engineBuilder({ docker: engine().docker, credentials, pushRetryDelays: [1, 1] })
const input = (files: Record<string, string>, rest: Partial<BuildInput> = {}) =>
  buildOf(files, registry.host, { network: engine().network, ...rest })

builderContract('the engine through /build', async () => ({
  builder,
  network: engine().network,
  forget: (reference) => engine().docker.getImage(reference).remove(),
  async [Symbol.asyncDispose]() {},
}))

test('the image is in the engine, too, and its base is one of the engine', async () => {
  const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }, { push: false })
  const built = await builder().build(build, io())
  expect((await engine().docker.getImage(build.reference).inspect()).Id).toBe(built.imageId)
  expect(built.from.images).toEqual([{ name: `docker.io/${BASE}`, digest: null }])
  expect(await builder().localImage(BASE)).toMatch(/^sha256:/)
  expect(await builder().localImage('conveyor-test/never:1')).toBeNull()
})

test('an ssh agent answers the steps that ask for it, where one is given', async () => {
  await using folder = await tempDir('conveyor-agent-')
  const socket = join(folder.path, 'agent.sock')
  const key = join(folder.path, 'key')
  await using agent = await start('ssh-agent', ['-D', '-a', socket])
  await agent.waitFor(/SSH_AUTH_SOCK/)
  for (const [program, args] of [
    ['ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'key-of-the-test', '-f', key]],
    ['ssh-add', ['-q', key]],
  ] as const) {
    await using one = await start(program, [...args], { env: { ...basicEnv(), SSH_AUTH_SOCK: socket } })
    expect(await one.exited).toMatchObject({ code: 0 })
  }
  // Asks for its keys, as ssh does; the answer has their comments.
  const ask = `require('net').connect(process.env.SSH_AUTH_SOCK).on('data', (d) => console.log(d.toString('latin1')) + process.exit()).write(Buffer.from([0, 0, 0, 1, 11]))`
  const step = (mount: string) =>
    input({ Dockerfile: `FROM ${NODE_IMAGE}\nRUN ${mount} node -e "${ask}" # ${fresh()}` })
  const log = io()
  await builder().build({ ...step('--mount=type=ssh'), push: false, ssh: socket }, log)
  expect(log.log.text).toContain('key-of-the-test')

  const required = step('--mount=type=ssh,required=true')
  const error = await failure(builder().build({ ...required, push: false }, io()))
  expect(error).toMatchObject({ kind: 'build_failed' })
  expect(error.message).toContain('no ssh agent is given to this build')
})

test('what needs an index is refused, as the classic store has none', async () => {
  const files = { Dockerfile: `FROM ${BASE}` }
  const attested = await failure(builder().build(input(files, { attest: ['sbom'] }), io()))
  expect(attested).toMatchObject({ kind: 'invalid', retryable: false })
  expect(attested.advice).toContain('no place for sbom. Turn on the containerd image store')
  const two = { platforms: ['linux/amd64', 'linux/arm64'] }
  expect((await failure(builder().build(input(files, two), io()))).message).toContain('several platforms')
})

test('an engine that is down is an error that says what to do', async () => {
  const docker = new Docker({ socketPath: '/nonexistent/docker.sock' })
  const nowhere = engineBuilder({ docker, credentials: NOBODY })
  const error = await failure(nowhere.build(input({ Dockerfile: `FROM ${BASE}` }), io()))
  expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
  expect(error.advice).toMatch(
    /the Docker engine did not open a build session: connect ENOENT.*docker version/,
  )
  expect((await failure(nowhere.isWarm('x'))).advice).toMatch(/engine does not answer: .*set DOCKER_HOST/)
})

describe('tidy', () => {
  test('keeps the newest images of a repository, and all of others', async () => {
    const able = engineBuilder({ docker: engine().docker, credentials: NOBODY, keepImages: 2 })
    const { reference } = input({})
    const name = reference.replace(/:1$/, '')
    const other = input({}).reference
    for (const tag of [`${name}:a`, `${name}:b`, `${name}:c`, `${name}-not:a`, other]) {
      const files = { Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }
      await able.build({ ...input(files), reference: tag, push: false }, io())
      // The engine tells the age of images in whole seconds.
      await sleep(1000 - (Date.now() % 1000))
    }
    await able.tidy(name)
    const left = async (prefix: string) => {
      const images = await engine().docker.listImages()
      return images
        .flatMap(({ RepoTags }) => RepoTags ?? [])
        .filter((tag) => tag.startsWith(prefix))
        .sort()
    }
    expect(await left(name)).toEqual([`${name}-not:a`, `${name}:b`, `${name}:c`])
    expect(await left(other)).toEqual([other])
  })
})

describe('prefetch', () => {
  const digests = async (name: string) => {
    const images = await engine().docker.listImages({ filters: { reference: [name] } })
    return images.flatMap(({ RepoDigests }) => RepoDigests ?? [])
  }

  test('the layers are there for one build; the image counts for nothing, and is tidied away', async () => {
    const able = builder()
    const old = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
    const name = old.reference.replace(/:1$/, '')
    const { digest } = await able.build(old, io())
    await engine().docker.getImage(old.reference).remove()

    await able.prefetch(name, digest ?? '', new AbortController().signal)
    expect(await digests(name)).toEqual([`${name}@${digest}`])
    expect(await able.isWarm(name)).toBe(false)
    await able.tidy(name)
    expect(await digests(name)).toEqual([`${name}@${digest}`])

    const next = {
      ...input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }),
      reference: `${name}:2`,
      push: false,
    }
    await able.build(next, io())
    await able.tidy(name)
    expect(await digests(name)).toEqual([])
    expect(await able.isWarm(name)).toBe(true)
  })

  test('an image that is not there is an error', async () => {
    const name = `${registry.host}/never/built`
    const digest = `sha256:${'0'.repeat(64)}`
    const gone = await failure(builder().prefetch(name, digest, new AbortController().signal))
    expect(gone.message).toContain(`${name}@${digest}`)
  })
})
