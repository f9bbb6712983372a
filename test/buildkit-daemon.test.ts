import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { solveBuilder } from '../src/lib/builder/solve-builder.ts'
import {
  type BuildkitTls,
  buildkitdEndpoint,
  parseBuildkitAddress,
} from '../src/lib/buildkit/buildkitd-endpoint.ts'
import { builderContract } from './builder.contract.ts'
import { startBuildkitd } from './support/buildkitd.ts'

async function endpointOf(name: string, tls?: BuildkitTls) {
  const address = parseBuildkitAddress(name)
  if (!address) throw new Error(name)
  return buildkitdEndpoint(name, address, tls)
}

builderContract('a buildkitd of its own, over mTLS', async () => {
  const buildkitd = await startBuildkitd()
  const [ca, cert, key] = await Promise.all(
    [buildkitd.tls.ca, buildkitd.tls.cert, buildkitd.tls.key].map((path) => readFile(path)),
  )
  const endpoint = await endpointOf(buildkitd.address, { ca, cert, key } as BuildkitTls)
  return {
    builder: (credentials) => solveBuilder({ endpoint, credentials, pushRetryDelays: [1, 1] }),
    network: 'host',
    forget: async () => {},
    [Symbol.asyncDispose]: () => buildkitd[Symbol.asyncDispose](),
  }
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
