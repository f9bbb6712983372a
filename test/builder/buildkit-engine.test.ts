import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildInput } from '../../src/lib/builder/builder.ts'
import {
  type BuildkitBuilderOptions,
  buildkitBuilder,
  CACHE_TAG,
} from '../../src/lib/builder/buildkit/builder.ts'
import { engineBuilder } from '../../src/lib/builder/engine/builder.ts'
import { dockerBuilder } from '../../src/lib/builder/engine/docker-builder.ts'
import { buildOverGrpc } from '../../src/lib/builder/engine/grpc-transport.ts'
import { cacheSize } from '../../src/lib/buildkit/cache-limit.ts'
import { engineEndpoint } from '../../src/lib/buildkit/engine-endpoint.ts'
import { docker, type PrivateEngine, startPrivateEngine } from '../support/engines/engine.ts'
import { ensureBusybox } from '../support/images/base-images.ts'
import { imageConfig, imageIndex } from '../support/images/pushed-image.ts'
import { frontOf, tokenRegistry } from '../support/registry/doubles.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { startTrixieEngine } from '../support/trixie.ts'
import { asking, builderContract, buildOf, failure, fresh, io, NOBODY, pushBase } from './builder.contract.ts'

builderContract("the containerd store of an engine, through BuildKit's API", async () => {
  const engine = await startTrixieEngine({ store: 'containerd' })
  return {
    builder: (credentials) =>
      dockerBuilder({
        docker: docker(engine),
        credentials,
        registry: asking(credentials),
        pushRetryDelays: [1, 1],
      }),
    network: engine.network,
    rewritesTimes: true,
    forget: async () => {},
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
})

builderContract("the classic store of that engine, through BuildKit's API", async () => {
  const engine = await startTrixieEngine({ store: 'classic' })
  const transport = () => buildOverGrpc
  return {
    builder: (credentials) =>
      engineBuilder({
        docker: docker(engine),
        credentials,
        registry: asking(credentials),
        pushRetryDelays: [1, 1],
        transport,
      }),
    network: engine.network,
    rewritesTimes: false,
    forget: (reference) => docker(engine).getImage(reference).remove(),
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
})

describe('an engine with the containerd store', () => {
  const resources = new AsyncDisposableStack()
  let engine: PrivateEngine
  let registry: TestRegistry
  let base: string
  beforeAll(async () => {
    engine = resources.use(await startTrixieEngine({ store: 'containerd' }))
    registry = resources.use(await startRegistry())
    base = await pushBase(registry.host)
  })
  afterAll(() => resources.disposeAsync())

  const builder = (options: Partial<BuildkitBuilderOptions> = {}) =>
    buildkitBuilder({
      endpoint: engineEndpoint(docker(engine)),
      credentials: NOBODY,
      pushRetryDelays: [1, 1],
      ...options,
    })
  const input = (files: Record<string, string>, rest: Partial<BuildInput> = {}) =>
    buildOf(files, registry.host, rest)

  test('describes what was chosen, and why, in one line', async () => {
    const of = (one: Parameters<typeof docker>[0]) =>
      dockerBuilder({ docker: docker(one), credentials: NOBODY, compression: 'gzip' })
    expect(await of(engine).describe()).toBe(
      'building and pushing with the BuildKit of the Docker engine (gzip layers): ' +
        'containerd image store (overlayfs)',
    )
    await using classic = await startTrixieEngine({ store: 'classic' })
    expect(await of(classic).describe()).toBe(
      "building through the Docker engine's /build API, pushing with the engine: classic image store",
    )
  })

  test('layers are zstd in an OCI manifest, or gzip in a Docker manifest', async () => {
    const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
    await builder().build(build, io())
    const { manifest } = await imageConfig(build.reference)
    expect(manifest.mediaType).toBe('application/vnd.oci.image.manifest.v1+json')
    expect(manifest.layers.at(-1)?.mediaType).toBe('application/vnd.oci.image.layer.v1.tar+zstd')

    // Even though the cache has it as zstd.
    await builder({ compression: 'gzip' }).build(build, io())
    const { manifest: plain } = await imageConfig(build.reference)
    expect(plain.mediaType).toBe('application/vnd.docker.distribution.manifest.v2+json')
    const types = plain.layers.map(({ mediaType }) => mediaType)
    expect(new Set(types)).toEqual(new Set(['application/vnd.docker.image.rootfs.diff.tar.gzip']))
  })

  test('a registry without OCI support gets gzip and a Docker manifest, with a line in the log', async () => {
    await using front = await frontOf(registry.host, (req, res) => {
      const old = !(req.method === 'PUT' && /\boci\b/.test(req.headers['content-type'] ?? ''))
      if (old) return false
      res.writeHead(400, { 'content-type': 'application/json' })
      res.end('{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}')
      return true
    })
    const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
    const reference = build.reference.replace(registry.host, front.host)
    const one = builder()
    const log = io()
    const { digest } = await one.build({ ...build, reference }, log)
    expect(log.log.text).toContain(
      `registry ${front.host} does not accept zstd layers or OCI manifests; pushing gzip`,
    )
    const image = await imageConfig(reference)
    expect(image.digest).toBe(digest)
    expect(image.manifest.mediaType).toContain('docker')

    // It is not retried.
    const again = io()
    await one.build({ ...build, reference }, again)
    expect(again.log.text).not.toContain('does not accept zstd')
  })

  test('the image depends on the commit alone: its time, and the same layers for the same files', async () => {
    const build = input({ Dockerfile: `FROM ${base}\nCOPY x /x`, x: fresh() }, { epoch: 1_600_000_000 })
    const { digest } = await builder().build(build, io())
    const { config } = await imageConfig(build.reference)
    expect(config.created).toBe('2020-09-13T12:26:40Z')
    expect((await builder().build({ ...build, cache: false }, io())).digest).toBe(digest)
  })

  test("a local base image of the engine precedes the registry, and is reported as the engine's", async () => {
    await ensureBusybox(docker(engine))
    const build = input({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN true' }, { push: false })
    const able = dockerBuilder({ docker: docker(engine), credentials: NOBODY })
    const { from } = await able.build(build, io())
    expect(from.images).toEqual([{ name: 'docker.io/conveyor-test/busybox:1', digest: null }])
    expect(await able.localImage('docker.io/conveyor-test/busybox:1')).toMatch(/^sha256:/)
    // An image that is not pushed stays in the engine.
    expect(await able.localImage(build.reference)).toMatch(/^sha256:/)
  })

  test('several platforms are pushed as one index, with attestations', async () => {
    const files = { Dockerfile: 'FROM scratch\nARG SECRET\nCOPY x /x', x: fresh() }
    const platforms = ['linux/amd64', 'linux/arm64']
    const attest = ['provenance'] as const
    const buildArgs = { SECRET: `hidden-${fresh()}` }
    const build = input(files, { platforms, attest: [...attest], buildArgs })
    const { digest } = await builder().build(build, io())
    const index = await imageIndex(build.reference)
    expect(index.digest).toBe(digest)
    expect(index.manifests.map(({ platform }) => `${platform.os}/${platform.architecture}`)).toEqual([
      ...platforms,
      ...['unknown/unknown', 'unknown/unknown'],
    ])
    const said = await Promise.all(
      index.manifests.slice(2).map(async ({ digest: one }) => {
        const { layers } = await index.read<{ layers: { digest: string }[] }>('manifests', one)
        return index.read<object>('blobs', layers[0]?.digest ?? '')
      }),
    )
    expect(said).toEqual(
      Array(2).fill(expect.objectContaining({ predicateType: expect.stringMatching('slsa') })),
    )
    expect(JSON.stringify(said)).not.toContain('hidden-')
  })

  test.each(['BuildKit', '/build'])('ulimits reach the steps through %s', async (way) => {
    const dockerfile = `FROM ${base}\nRUN echo "${fresh()} files: $(ulimit -n) of $(ulimit -Hn)"`
    const build = input({ Dockerfile: dockerfile }, { ulimits: { nofile: '100:200' } })
    const log = io()
    const classic = () => engineBuilder({ docker: docker(engine), credentials: NOBODY })
    await (way === '/build' ? classic() : builder()).build(build, log)
    expect(log.log.text).toContain('files: 100 of 200')
  })

  test('/build works there, too, if BuildKit cannot be reached', async () => {
    const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
    const { digest } = await engineBuilder({ docker: docker(engine), credentials: NOBODY }).build(build, io())
    expect((await imageConfig(build.reference)).digest).toBe(digest)
  })

  describe('cache in the registry', () => {
    test('a worker with an empty cache starts with the cache of another one', async () => {
      const files = (change: string) => ({
        Dockerfile: [
          `FROM ${base} AS tools`,
          'COPY deps /deps',
          'RUN cat /deps > /made; head -c 8 /dev/urandom | md5sum > /random',
          `FROM ${base}`,
          'COPY --from=tools /made /random /tools/',
          'COPY app /app',
          'RUN cat /app /tools/*',
          '',
        ].join('\n'),
        deps,
        app: change,
      })
      const deps = fresh()
      const first = input(files('one'))
      const imageName = first.reference.replace(/:1$/, '')
      const one = builder()
      await one.build(first, io())
      one.saveCache(imageName, async () => first)
      await one.close()
      await imageConfig(`${imageName}:${CACHE_TAG}`) // throws if it does not exist

      await using other = await startTrixieEngine({ store: 'containerd' })
      const two = builder({ endpoint: engineEndpoint(docker(other)) })
      expect(await two.isWarm(imageName)).toBe(false)
      const log = io()
      const cacheFrom = [`${imageName}:${CACHE_TAG}`]
      const second = { ...first, ...input(files('two')), reference: `${imageName}:2`, cacheFrom }
      const built = await two.build(second, log)
      // Only two of the five steps are affected by the change; a stage that is not part of the image is cached, too.
      expect(built.steps, log.log.text).toEqual({ total: 5, cached: 3 })
      const layers = async (reference: string) =>
        (await imageConfig(reference)).manifest.layers.map(({ digest }) => digest)
      const [before, after] = await Promise.all([layers(first.reference), layers(second.reference)])
      expect(after.slice(0, -2)).toEqual(before.slice(0, -2))
      expect(await two.isWarm(imageName)).toBe(true)
    })

    test('a worker that imported a whole image from the cache imports it again', async () => {
      const first = input({ Dockerfile: `FROM ${base}\nCOPY a /a\nRUN cat /a`, a: fresh() })
      const imageName = first.reference.replace(/:1$/, '')
      const one = builder()
      await one.build(first, io())
      one.saveCache(imageName, async () => first)
      await one.close()
      await using other = await startTrixieEngine({ store: 'containerd' })
      const endpoint = engineEndpoint(docker(other))
      const two = builder({ endpoint })
      const cacheFrom = [`${imageName}:${CACHE_TAG}`]
      expect((await two.build({ ...first, cacheFrom }, io())).steps).toEqual({ total: 2, cached: 2 })
      expect(await two.isWarm(imageName)).toBe(false)
      expect(await builder({ endpoint }).isWarm(imageName)).toBe(false)
    })

    test('prefetched layers are available to the build', async () => {
      await using front = await frontOf(registry.host)
      const from = (change: string) => ({
        Dockerfile: `FROM ${base.replace(registry.host, front.host)}\nCOPY deps /deps\nCOPY app /app\nRUN cat /app`,
        deps,
        app: change,
      })
      const deps = fresh()
      const first = input(from('one'))
      const imageName = first.reference.replace(/:1$/, '').replace(registry.host, front.host)
      const one = builder()
      const { digest } = await one.build({ ...first, reference: `${imageName}:1` }, io())
      one.saveCache(imageName, async () => ({ ...first, reference: `${imageName}:1` }))
      await one.close()
      const layers = (await imageConfig(`${imageName}:1`)).manifest.layers.map((layer) => layer.digest)

      await using other = await startTrixieEngine({ store: 'containerd' })
      const two = builder({ endpoint: engineEndpoint(docker(other)) })
      const fetched = () =>
        front.seen.filter(
          ({ method, url }) => method === 'GET' && layers.some((layer) => url.endsWith(layer)),
        )
      const before = fetched().length
      await two.prefetch(imageName, digest ?? '', new AbortController().signal)
      const ahead = fetched().length - before
      expect(ahead).toBe(layers.length)
      const cacheFrom = [`${imageName}:${CACHE_TAG}`]
      const second = { ...first, ...input(from('two')), reference: `${imageName}:2`, cacheFrom }
      expect((await two.build(second, io())).steps).toEqual({ total: 3, cached: 1 })
      expect(fetched().length - before).toBe(ahead)

      const gone = `sha256:${'0'.repeat(64)}`
      expect((await failure(two.prefetch(imageName, gone, new AbortController().signal))).message).toContain(
        gone,
      )
    })

    test('a missing cache does not fail a build, and one that cannot be written is logged', async () => {
      const lines: string[] = []
      const one = builder({ log: (line) => lines.push(line) })
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()}` })
      const imageName = build.reference.replace(/:1$/, '')
      await one.build({ ...build, cacheFrom: [`${imageName}:${CACHE_TAG}`] }, io())
      const failed = { Dockerfile: `FROM ${base}\nRUN echo ${fresh()}; exit 3` }
      const error = await failure(
        one.build({ ...input(failed), cacheFrom: [`${imageName}:${CACHE_TAG}`] }, io()),
      )
      expect(error.message).toMatch(/RUN echo .* failed with exit code 3/)

      await using gone = await startRegistry()
      await gone.stop()
      one.saveCache(`${gone.host}/x`, async () => build)
      await one.close()
      expect(lines).toEqual([
        expect.stringMatching(`^exporting the cache of ${gone.host}/x failed .*: .*connection refused`),
      ])
    })
  })

  test('the cache is kept within its limit, after a build', async () => {
    const endpoint = engineEndpoint(docker(engine))
    await builder().build(input({ Dockerfile: `FROM ${base}\nRUN head -c 30000000 /dev/urandom > /x` }), io())
    expect(await cacheSize(endpoint)).toBeGreaterThan(30e6)
    await builder({ maxCacheBytes: 20e6 }).build(input({ Dockerfile: `FROM ${base}\nRUN true` }), io())
    await expect.poll(() => cacheSize(endpoint)).toBeLessThan(20e6)
  })

  test('so is that of an engine with the classic store', async () => {
    await using folder = await tempDir('conveyor-classic-')
    await using classic = await startPrivateEngine(join(folder.path, 'engine'), { removeData: true })
    const endpoint = engineEndpoint(docker(classic))
    const options = { docker: docker(classic), credentials: NOBODY, maxCacheBytes: 20e6 }
    const large = { Dockerfile: `FROM ${base}\nRUN head -c 30000000 /dev/urandom > /x\nRUN rm /x` }
    await engineBuilder({ ...options, maxCacheBytes: null }).build(input(large, { push: false }), io())
    await docker(classic).pruneImages({ filters: { dangling: ['false'] } })
    expect(await cacheSize(endpoint)).toBeGreaterThan(30e6)
    const small = { Dockerfile: `FROM ${base}\nRUN true` }
    await dockerBuilder(options).build(input(small, { push: false }), io())
    await expect.poll(() => cacheSize(endpoint)).toBeLessThan(20e6)
  })

  test('a login rejected by the token server is a final error, at once', async () => {
    await using tokens = await tokenRegistry({ robot: 'right' }, 'refresh-token')
    const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
    const reference = build.reference.replace(registry.host, tokens.host)
    const credentials = { forHost: async () => ({ username: 'robot', password: 'wrong' }) }
    const log = io()
    const refused = await failure(builder({ credentials }).build({ ...build, reference }, log))
    expect(refused).toMatchObject({ kind: 'unauthorized', retryable: false })
    expect(refused.hint).toContain(`docker login ${tokens.host}`)
    expect(log.log.text).not.toContain('retrying')
    expect(log.log.text).not.toContain('wrong')
  })

  describe('failures', () => {
    test('an engine that dies during a build is a retryable error, and the retry succeeds', async () => {
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo begun; sleep 1000` })
      const log = io()
      const failed = failure(builder().build(build, log))
      await expect.poll(() => log.log.text).toMatch(/ begun\n/)
      await engine.stop('SIGKILL')
      expect(await failed).toMatchObject({ kind: 'unavailable', retryable: true })
      expect((await failed).message).toContain('lost the connection to the Docker engine')

      const down = await failure(builder().build(build, io()))
      expect(down).toMatchObject({ kind: 'unavailable', retryable: true })
      expect(down.hint).toContain('DOCKER_HOST')
      await engine.start()
      await builder().build(input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()}` }), io())
    })

    test('a lost session is a retryable error', async () => {
      const endpoint = engineEndpoint(docker(engine))
      let breakOff = () => {}
      const fragile: typeof endpoint = {
        ...endpoint,
        async attach(hello) {
          const socket = await endpoint.attach(hello)
          breakOff = () => socket.destroy()
          return socket
        },
      }
      const build = input({
        Dockerfile: `FROM ${base}\nRUN echo begun; sleep 30\nRUN --mount=type=secret,id=s cat /run/secrets/s`,
      })
      const log = io()
      const secrets = { s: Buffer.from('x') }
      const failed = failure(builder({ endpoint: fragile }).build({ ...build, secrets }, log))
      await expect.poll(() => log.log.text).toMatch(/ begun\n/)
      breakOff()
      expect(await failed).toMatchObject({ kind: 'unavailable', retryable: true })
    })
  })
})
