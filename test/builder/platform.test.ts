import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import Docker from 'dockerode'
import { expect, test } from 'vitest'
import { buildkitBuilder } from '../../src/lib/builder/buildkit/builder.ts'
import { engineBuilder } from '../../src/lib/builder/engine/builder.ts'
import { farmBuilder } from '../../src/lib/builder/farm.ts'
import { parseBuildkitAddress } from '../../src/lib/buildkit/address.ts'
import { buildkitdEndpoint } from '../../src/lib/buildkit/buildkitd-endpoint.ts'
import {
  ControlService,
  type ListWorkersResponse,
  type Platform,
  type WorkerRecord,
} from '../../src/lib/buildkit/gen/control.ts'
import { tempDir } from '../support/temp.ts'

/** Which platform a builder builds for if none is requested. Without an engine. */

const CREDENTIALS = { forHost: async () => null }
const ARM: Platform = { OS: 'linux', Architecture: 'arm', Variant: 'v7' }
const ARM64: Platform = { OS: 'linux', Architecture: 'arm64', Variant: '' }
const AMD64: Platform = { OS: 'linux', Architecture: 'amd64', Variant: '' }

/** A BuildKit that only tells about itself; `asked` counts how often. */
async function buildkitWith(...platforms: Platform[]) {
  const resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-platform-'))
  const path = join(folder.path, 'buildkitd.sock')
  const worker: WorkerRecord = { ID: 'w', Labels: {}, platforms, GCPolicy: [], BuildkitVersion: undefined }
  const it = { asked: 0, endpoint: endpointOf(path), [Symbol.asyncDispose]: () => resources.disposeAsync() }
  const handlers: UntypedServiceImplementation = {
    listWorkers: (_: unknown, done: sendUnaryData<ListWorkersResponse>) => {
      it.asked++
      done(null, { record: [worker] })
    },
  }
  for (const name of Object.keys(ControlService)) handlers[name] ??= () => {}
  const server = new Server()
  server.addService(ControlService, handlers)
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  )
  resources.defer(() => server.forceShutdown())
  return it
}

function endpointOf(path: string) {
  const name = `unix://${path}`
  const address = parseBuildkitAddress(name)
  if (!address) throw new Error(name)
  return buildkitdEndpoint(name, address)
}

test('that of a BuildKit is the first one of its worker, and it is asked once', async () => {
  await using one = await buildkitWith(ARM, ARM64)
  const builder = buildkitBuilder({ endpoint: one.endpoint, credentials: CREDENTIALS })
  expect([await builder.platform('acme/app'), await builder.platform('acme/web')]).toEqual([
    'linux/arm/v7',
    'linux/arm/v7',
  ])
  expect(one.asked).toBe(1)
})

test('that of a farm is that of the first choice of an image, also while that is down', async () => {
  await using one = await buildkitWith(AMD64)
  await using two = await buildkitWith(ARM64)
  const endpoints = [one.endpoint, two.endpoint]
  const farm = farmBuilder({ endpoints, credentials: CREDENTIALS })
  const images = Array.from({ length: 40 }, (_, i) => `registry.test/acme/app-${i}`)
  const all = async () => Promise.all(images.map((image) => farm.platform(image)))
  const before = await all()
  expect(new Set(before)).toEqual(new Set(['linux/amd64', 'linux/arm64']))
  await one[Symbol.asyncDispose]()
  expect(await all()).toEqual(before)
  // It never was up.
  const late = farmBuilder({ endpoints, credentials: CREDENTIALS })
  expect(new Set(await Promise.all(images.map((image) => late.platform(image))))).toEqual(
    new Set(['linux/arm64']),
  )
  await two[Symbol.asyncDispose]()
  const none = farmBuilder({ endpoints, credentials: CREDENTIALS })
  await expect(none.platform('registry.test/acme/app')).rejects.toMatchObject({ kind: 'unavailable' })
})

test('that of an engine is its own; not known if a proxy in front of it does not let us ask', async () => {
  await using folder = await tempDir('conveyor-platform-')
  const socketPath = join(folder.path, 'docker.sock')
  let status = 200
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url?.replace(/\?.*/, '')}`)
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ Os: 'linux', Arch: 'arm64' }))
  })
  server.listen(socketPath)
  await once(server, 'listening')
  const builder = () => engineBuilder({ docker: new Docker({ socketPath }), credentials: CREDENTIALS })
  const one = builder()
  expect([await one.platform('acme/app'), await one.platform('acme/web')]).toEqual([
    'linux/arm64',
    'linux/arm64',
  ])
  expect(asked).toEqual(['GET /version'])
  status = 403
  expect(await builder().platform('acme/app')).toBeNull()
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
  await expect(builder().platform('acme/app')).rejects.toMatchObject({ kind: 'unavailable' })
})
