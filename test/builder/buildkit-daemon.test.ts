import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildInput } from '../../src/lib/builder/builder.ts'
import { buildkitBuilder } from '../../src/lib/builder/buildkit/builder.ts'
import { type FarmBuilderOptions, farmBuilder } from '../../src/lib/builder/farm.ts'
import { parseBuildkitAddress } from '../../src/lib/buildkit/address.ts'
import { buildkitdEndpoint } from '../../src/lib/buildkit/buildkitd-endpoint.ts'
import type { Endpoint } from '../../src/lib/buildkit/endpoint.ts'
import { startBuildkitd, type TestBuildkitd } from '../support/engines/buildkitd.ts'
import { imageIndex } from '../support/images/pushed-image.ts'
import { type Certificates, makeCertificates, type TlsFiles } from '../support/network/certificates.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { asking, builderContract, buildOf, failure, fresh, io, NOBODY, pushBase } from './builder.contract.ts'

async function endpointOf(name: string, files?: TlsFiles): Promise<Endpoint> {
  const address = parseBuildkitAddress(name)
  if (!address) throw new Error(name)
  if (!files) return buildkitdEndpoint(name, address)
  const [ca, cert, key] = await Promise.all([readFile(files.ca), readFile(files.cert), readFile(files.key)])
  return buildkitdEndpoint(name, address, { ca, cert, key })
}

builderContract('a buildkitd of its own, over mTLS', async () => {
  const buildkitd = await startBuildkitd()
  const endpoint = await endpointOf(buildkitd.address, buildkitd.tls)
  return {
    builder: (credentials) =>
      buildkitBuilder({ endpoint, credentials, registry: asking(credentials), pushRetryDelays: [1, 1] }),
    network: 'host',
    rewritesTimes: true,
    forget: async () => {},
    [Symbol.asyncDispose]: () => buildkitd[Symbol.asyncDispose](),
  }
})

describe('connections to a buildkitd', () => {
  const resources = new AsyncDisposableStack()
  let buildkitd: TestBuildkitd
  let registry: TestRegistry
  let base: string
  beforeAll(async () => {
    buildkitd = resources.use(await startBuildkitd())
    registry = resources.use(await startRegistry())
    base = await pushBase(registry.host)
  })
  afterAll(() => resources.disposeAsync())

  test('a Unix socket', async () => {
    const one = buildkitBuilder({ endpoint: await endpointOf(buildkitd.socket), credentials: NOBODY })
    const build = buildOf({ Dockerfile: `FROM ${base}\nCOPY a /a\nRUN cat /a`, a: fresh() }, registry.host)
    expect((await one.build(build, io())).steps.total).toBe(2)
  })

  test('a client without a trusted certificate is refused', async () => {
    await using folder = await tempDir('conveyor-certificates-')
    const { client } = await makeCertificates(folder.path)
    const strange = { ...buildkitd.tls, cert: client.cert, key: client.key }
    const build = buildOf({ Dockerfile: `FROM ${base}` }, registry.host)
    for (const files of [client, strange]) {
      const endpoint = await endpointOf(buildkitd.address, files)
      const error = await failure(buildkitBuilder({ endpoint, credentials: NOBODY }).build(build, io()))
      expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
      expect(error.message).toContain(buildkitd.address)
      expect(error.message).toMatch(/certificate|alert/)
    }
  })

  test('the SBOM is attached to the image', async () => {
    // Docker Hub's generator is not available everywhere; this one follows its protocol, and lists what it was given.
    // https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md
    const scan = [
      'files=$(echo $(ls $BUILDKIT_SCAN_SOURCE/app))',
      'cat > $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json <<EOF',
      '{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",',
      ' "predicate": {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "$files"}}',
      'EOF',
    ]
    await using hub = await startRegistry()
    await using node = await startBuildkitd({ hub: hub.host })
    const one = buildkitBuilder({ endpoint: await endpointOf(node.socket), credentials: NOBODY })
    const generator = buildOf(
      { Dockerfile: `FROM ${base}\nCOPY scan /\nENTRYPOINT ["sh", "/scan"]`, scan: scan.join('\n') },
      hub.host,
    )
    await one.build({ ...generator, reference: `${hub.host}/docker/buildkit-syft-scanner:stable-1` }, io())

    const files = { Dockerfile: `FROM ${base}\nCOPY . /app`, 'left-pad.js': fresh() }
    const build = buildOf(files, registry.host, { attest: ['sbom'] })
    await one.build(build, io())
    const index = await imageIndex(build.reference)
    const { layers } = await index.read<{ layers: { digest: string }[] }>(
      'manifests',
      index.manifests[1]?.digest ?? '',
    )
    expect(await index.read('blobs', layers[0]?.digest ?? '')).toMatchObject({
      predicateType: 'https://spdx.dev/Document',
      predicate: { name: expect.stringContaining('left-pad.js') },
    })
  })

  test('a node that dies during a build is a retryable error', async () => {
    await using mortal = await startBuildkitd()
    const endpoint = await endpointOf(mortal.socket)
    const log = io()
    const build = buildOf({ Dockerfile: `FROM ${base}\nRUN echo begun; sleep 1000` }, registry.host)
    const failed = failure(buildkitBuilder({ endpoint, credentials: NOBODY }).build(build, log))
    await expect.poll(() => log.log.text).toMatch(/ begun\n/)
    await mortal.stop('SIGKILL')
    expect(await failed).toMatchObject({ kind: 'unavailable', retryable: true })
    expect((await failed).message).toContain(mortal.socket)
  })
})

describe('a farm', () => {
  const resources = new AsyncDisposableStack()
  let certificates: Certificates
  let nodes: TestBuildkitd[]
  let endpoints: Endpoint[]
  let registry: TestRegistry
  let base: string
  beforeAll(async () => {
    certificates = await makeCertificates(resources.use(await tempDir('conveyor-certificates-')).path)
    nodes = [
      resources.use(await startBuildkitd({ certificates })),
      resources.use(await startBuildkitd({ certificates })),
    ]
    endpoints = await Promise.all(nodes.map(({ address, tls }) => endpointOf(address, tls)))
    registry = resources.use(await startRegistry())
    base = await pushBase(registry.host)
  })
  afterAll(() => resources.disposeAsync())

  const farm = (options: Partial<FarmBuilderOptions> = {}) =>
    farmBuilder({ endpoints, credentials: NOBODY, pushRetryDelays: [1, 1], ...options })
  const input = (files: Record<string, string>, rest: Partial<BuildInput> = {}) =>
    buildOf(files, registry.host, rest)
  const placeIn = (text: string) => /building on (\S+)\n/.exec(text)?.[1] ?? text

  test('a repository finds its cache from any worker; repositories are distributed', async () => {
    const places = new Set<string>()
    for (let i = 0; i < 6 || (places.size < 2 && i < 40); i++) {
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const [one, two] = [io(), io()]
      await farm().build(build, one)
      const again = await farm({ endpoints: endpoints.toReversed() }).build(build, two)
      expect(again.steps).toEqual({ total: 1, cached: 1 })
      expect(placeIn(two.log.text)).toBe(placeIn(one.log.text))
      places.add(placeIn(one.log.text))
    }
    expect(places.size).toBe(2)
  })

  test('when the first node is busy, the next one builds with the cache in the registry', async () => {
    const one = farm({ maxBuilds: 1 })
    const dockerfile = `FROM ${base}\nCOPY deps /deps\nRUN head -c 8 /dev/urandom | md5sum > /made\nCOPY app /app`
    const files = { Dockerfile: dockerfile, deps: fresh(), app: 'one' }
    const build = input(files)
    const imageName = build.reference.replace(/:1$/, '')
    const first = io()
    await one.build(build, first)
    one.saveCache(imageName, async () => build)
    await one.close()

    const two = farm({ maxBuilds: 1 })
    const abort = new AbortController()
    const busy = io(abort.signal)
    const waits = `FROM ${base}\nRUN echo begun ${fresh()}; sleep 1000`
    const sleeping = two.build({ ...input({ Dockerfile: waits }), reference: build.reference }, busy)
    sleeping.catch(() => {})
    await expect.poll(() => busy.log.text).toMatch(/ begun /)
    expect(placeIn(busy.log.text)).toBe(placeIn(first.log.text))
    const other = io()
    const changed = { ...build, ...input({ ...files, app: 'two' }), reference: `${imageName}:2` }
    const built = await two.build(changed, other)
    expect(placeIn(other.log.text)).not.toBe(placeIn(first.log.text))
    expect(other.log.text).toContain(`${placeIn(first.log.text)} is busy (1 of 1 builds)\n`)
    expect(built.steps).toEqual({ total: 3, cached: 2 })
    abort.abort(new Error('enough'))
    await expect(sleeping).rejects.toThrow('enough')
  })

  test('when a node is down, the next one builds; it is tried again after a while', async () => {
    const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()}` })
    const first = io()
    const one = farm({ pauseMs: 300 })
    await one.build(build, first)
    const place = placeIn(first.log.text)
    const node = nodes.find(({ address }) => address === place)
    await node?.stop('SIGKILL')
    const [second, third, fourth] = [io(), io(), io()]
    await one.build(build, second)
    expect(placeIn(second.log.text)).not.toBe(place)
    expect(second.log.text).toMatch(new RegExp(`cannot reach buildkitd at ${place}: .*trying the next node`))
    await one.build(build, third)
    expect(placeIn(third.log.text)).not.toBe(place)
    await node?.start()
    await sleep(300)
    await one.build(build, fourth)
    expect(placeIn(fourth.log.text)).toBe(place)
  })

  test('when all nodes are down, the error names them', async () => {
    const gone = await Promise.all(
      ['tcp://127.0.0.1:1', 'unix:///nonexistent/buildkitd.sock'].map((name) => endpointOf(name)),
    )
    const error = await failure(farm({ endpoints: gone }).build(input({ Dockerfile: `FROM ${base}` }), io()))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toContain('tcp://127.0.0.1:1, unix:///nonexistent/buildkitd.sock')
    expect(error.advice).toMatch(/ECONNREFUSED|ENOENT/)
  })

  test('describes itself in one line', async () => {
    expect(await farm().describe()).toBe(
      `building on buildkitd at ${nodes[0]?.address}, ${nodes[1]?.address} (nodes are assigned by repository, up to 4 builds each)`,
    )
  })
})

describe('addresses', () => {
  test.each([
    ['unix:///run/buildkit/buildkitd.sock', { path: '/run/buildkit/buildkitd.sock' }],
    ['tcp://build-1.lan:9999', { host: 'build-1.lan', port: 9999 }],
    ['tcp://10.0.0.7', { host: '10.0.0.7', port: 1234 }],
    ['tcp://[::1]:1', { host: '::1', port: 1 }],
    ['tcp://host:70000', undefined],
    ['http://host:1', undefined],
    ['unix://relative', undefined],
  ])('%s', (text, expected) => expect(parseBuildkitAddress(text)).toEqual(expected))
})
