import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildInput } from '../../src/lib/builder/builder.ts'
import { buildOverHttp } from '../../src/lib/builder/engine/build-transport.ts'
import { type EngineBuilderOptions, engineBuilder } from '../../src/lib/builder/engine/builder.ts'
import { buildOverGrpc } from '../../src/lib/builder/engine/grpc-transport.ts'
import { docker, startPrivateEngine } from '../support/engines/engine.ts'
import { engine } from '../support/global-setup.ts'
import { ensureBusybox, NODE_IMAGE } from '../support/images/base-images.ts'
import { imageConfig } from '../support/images/pushed-image.ts'
import { basicEnv, start } from '../support/processes.ts'
import { identityToken, tokenRegistry } from '../support/registry/doubles.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { asking, builderContract, buildOf, failure, fresh, io, NOBODY, pushBase } from './builder.contract.ts'

const BASE = 'conveyor-test/busybox:1'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry[Symbol.asyncDispose]())

const builder = (credentials = NOBODY, options: Partial<EngineBuilderOptions> = {}) =>
  engineBuilder({
    docker: engine().docker,
    credentials,
    registry: asking(credentials),
    pushRetryDelays: [1, 1],
    ...options,
  })
const input = (files: Record<string, string>, rest: Partial<BuildInput> = {}) =>
  buildOf(files, registry.host, { network: engine().network, ...rest })

describe.each([
  { name: '/build', transport: buildOverHttp },
  { name: '/grpc', transport: buildOverGrpc },
])('the engine 20.10 through $name', ({ name, transport }) => {
  const through = (credentials = NOBODY, options: Partial<EngineBuilderOptions> = {}) =>
    builder(credentials, { transport: () => transport, ...options })

  builderContract(name, async () => ({
    builder: through,
    network: engine().network,
    rewritesTimes: false,
    forget: (reference) => engine().docker.getImage(reference).remove(),
    async [Symbol.asyncDispose]() {},
  }))

  test("the image is in the engine, too, and its base is reported as the engine's", async () => {
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }, { push: false })
    const built = await through().build(build, io())
    expect((await engine().docker.getImage(build.reference).inspect()).Id).toBe(built.imageId)
    expect(built.from.images).toEqual([{ name: `docker.io/${BASE}`, digest: null }])
    expect(await through().localImage(BASE)).toMatch(/^sha256:/)
    expect(await through().localImage('conveyor-test/never:1')).toBeNull()
  })

  test('steps can use the SSH agent, if one is configured', async () => {
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
    // Requests the agent's keys, as ssh does; the answer includes their comments.
    const ask = `require('net').connect(process.env.SSH_AUTH_SOCK).on('data', (d) => console.log(d.toString('latin1')) + process.exit()).write(Buffer.from([0, 0, 0, 1, 11]))`
    const step = (mount: string) =>
      input({ Dockerfile: `FROM ${NODE_IMAGE}\nRUN ${mount} node -e "${ask}" # ${fresh()}` })
    const log = io()
    await through().build({ ...step('--mount=type=ssh'), push: false, ssh: socket }, log)
    expect(log.log.text).toContain('key-of-the-test')

    await agent.kill()
    const gone = await failure(
      through().build({ ...step('--mount=type=ssh'), push: false, ssh: socket }, io()),
    )
    expect(gone).toMatchObject({
      kind: 'unavailable',
      hint: 'Check that it is running and that --build.ssh is correct',
    })
    expect(gone.message).toContain(`the SSH agent at ${socket} failed: `)

    const required = step('--mount=type=ssh,required=true')
    const error = await failure(through().build({ ...required, push: false }, io()))
    expect(error).toMatchObject({ kind: 'build_failed' })
    expect(error.message).toContain('no SSH agent is configured for this build')
  })

  test('an engine with an empty cache starts with the cache in the image', async () => {
    const base = await pushBase(registry.host)
    const from = (change: string) => ({
      Dockerfile: `FROM ${base}\nCOPY deps /deps\nRUN head -c 8 /dev/urandom > /random\nCOPY app /app\nRUN cat /app`,
      deps,
      app: change,
    })
    const deps = fresh()
    const first = input(from('one'))
    await through().build(first, io())
    await using folder = await tempDir('conveyor-classic-')
    await using other = await startPrivateEngine(join(folder.path, 'engine'), { removeData: true })
    const cold = through(NOBODY, { docker: docker(other) })
    const imageName = first.reference.replace(/:1$/, '')
    expect(await cold.isWarm(imageName)).toBe(false)
    const second = { ...first, ...input(from('two')), reference: `${imageName}:2` }
    const { steps } = await cold.build({ ...second, cacheFrom: [first.reference] }, io())
    expect(steps).toEqual({ total: 4, cached: 2 })
    expect(await cold.isWarm(imageName)).toBe(true)
    // The steps that it imported are part of its image's cache, too.
    const record = async (reference: string) => {
      const config = (await imageConfig(reference)).config as object as { 'moby.buildkit.cache.v0': string }
      return JSON.parse(atob(config['moby.buildkit.cache.v0'])) as { layers?: object[] }[]
    }
    const layers = async (reference: string) => (await record(reference)).filter((one) => one.layers).length
    expect(await layers(second.reference)).toBe(await layers(first.reference))
  })

  test('an engine that dies during a build is a retryable error', async () => {
    await using folder = await tempDir('conveyor-classic-')
    await using other = await startPrivateEngine(join(folder.path, 'engine'), { removeData: true })
    await ensureBusybox(docker(other))
    const log = io()
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo begun; sleep 1000` })
    const failed = failure(through(NOBODY, { docker: docker(other) }).build(build, log))
    await expect.poll(() => log.log.text).toMatch(/ begun\n/)
    await other.stop('SIGKILL')
    expect(await failed).toMatchObject({ kind: 'unavailable', retryable: true })
    expect((await failed).message).toContain('lost the connection to the Docker engine')
  })
})

test('images that need an index are refused, because the classic store has none', async () => {
  const files = { Dockerfile: `FROM ${BASE}` }
  const attested = await failure(builder().build(input(files, { attest: ['sbom'] }), io()))
  expect(attested).toMatchObject({ kind: 'invalid', retryable: false })
  expect(attested.advice).toContain(
    "cannot hold attestations (sbom). Enable the engine's containerd image store",
  )
  const two = { platforms: ['linux/amd64', 'linux/arm64'] }
  expect((await failure(builder().build(input(files, two), io()))).message).toContain(
    'a multi-platform image',
  )
})

test('ulimits are refused, because an engine before Docker 23 would ignore them', async () => {
  const limited = input({ Dockerfile: `FROM ${BASE}` }, { ulimits: { nofile: '100:200' } })
  const error = await failure(builder().build(limited, io()))
  expect(error).toMatchObject({ kind: 'invalid', retryable: false })
  expect(error.advice).toMatch(
    /^Docker 20\.10\.\S+ does not support ulimits for RUN steps\. .*omit --build\.ulimit$/,
  )
})

test.each([
  ['RUN <<EOF\ntrue\nEOF', 'heredocs'],
  ['COPY <<EOF /x\nhello\nEOF', 'heredocs'],
  ['COPY --link Dockerfile /x', '--link'],
])('%s requires a newer frontend, and the error says so', async (step, what) => {
  const error = await failure(builder().build(input({ Dockerfile: `FROM ${BASE}\n${step}\n` }), io()))
  expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
  expect(error.advice).toContain(
    `does not support ${what}. Start the Dockerfile with \`# syntax=docker/dockerfile:1\`, or use`,
  )
})

test('named contexts are refused if the frontend does not support them', async () => {
  const named = input({ Dockerfile: `FROM ${BASE}` }, { contexts: { other: `docker-image://${BASE}` } })
  const error = await failure(builder().build(named, io()))
  expect(error).toMatchObject({ kind: 'invalid', retryable: false })
  expect(error.advice).toContain('does not support named contexts. Start the Dockerfile with `# syntax=')
})

test('a network that BuildKit does not support is refused', async () => {
  const names = input({ Dockerfile: `FROM ${BASE}` }, { network: 'my-bridge' })
  const error = await failure(builder(NOBODY, { transport: () => buildOverGrpc }).build(names, io()))
  expect(error).toMatchObject({ kind: 'invalid' })
  expect(error.advice).toContain('the network my-bridge for RUN steps. Set --build.network to default, host,')
})

test.each(['stored', 'of a helper'])(
  'docker itself exchanges an identity token (%s) as we do',
  async (where) => {
    await using tokens = await tokenRegistry({}, 'a-refresh-token')
    await using folder = await tempDir()
    const credentials = await identityToken(folder.path, tokens.host, 'a-refresh-token', where === 'stored')
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
    const reference = build.reference.replace(registry.host, tokens.host)
    await builder(credentials).build({ ...build, reference, push: false }, io())
    const client = ['--host', engine().dockerHost, '--config', folder.path]
    await using docker = await start('docker', [...client, 'push', reference], {
      env: { ...basicEnv(), PATH: `${folder.path}:${process.env.PATH}` },
    })
    expect(await docker.exited, docker.stderr()).toMatchObject({ code: 0 })
    const asked = () =>
      tokens.tokens
        .splice(0)
        .filter(({ method }) => method === 'POST')
        .map(({ body }) => new URLSearchParams(body).get('grant_type'))
    const byDocker = asked()
    expect(new Set(byDocker)).toEqual(new Set(['refresh_token']))

    await builder(credentials).build({ ...build, reference }, io())
    expect(asked()).toEqual(byDocker)
  },
)

test('an engine that is down is an error with a hint', async () => {
  const nowhere = builder(NOBODY, { docker: new Docker({ socketPath: '/nonexistent/docker.sock' }) })
  const error = await failure(nowhere.build(input({ Dockerfile: `FROM ${BASE}` }), io()))
  expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
  expect(error.advice).toMatch(/cannot reach the Docker engine: connect ENOENT.*set DOCKER_HOST/)
  expect((await failure(nowhere.isWarm('x'))).advice).toMatch(
    /cannot reach the Docker engine: .*set DOCKER_HOST/,
  )
})

describe('tidy', () => {
  test('keeps the newest images of a repository, and all images of others', async () => {
    const able = engineBuilder({ docker: engine().docker, credentials: NOBODY, keepImages: 2 })
    const { reference } = input({})
    const name = reference.replace(/:1$/, '')
    const other = input({}).reference
    for (const tag of [`${name}:a`, `${name}:b`, `${name}:c`, `${name}-not:a`, other]) {
      const files = { Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }
      await able.build({ ...input(files), reference: tag, push: false }, io())
      // The engine reports the age of images in whole seconds.
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

  test('the layers are kept for one build; the image is not counted, and gets removed', async () => {
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

  test('a missing image is an error', async () => {
    const name = `${registry.host}/never/built`
    const digest = `sha256:${'0'.repeat(64)}`
    const gone = await failure(builder().prefetch(name, digest, new AbortController().signal))
    expect(gone.message).toContain(`${name}@${digest}`)
  })
})
