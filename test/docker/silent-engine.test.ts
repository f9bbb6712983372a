import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import Docker from 'dockerode'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { buildkitdEndpoint } from '../../src/lib/buildkit/buildkitd-endpoint.ts'
import { engineEndpoint } from '../../src/lib/buildkit/engine-endpoint.ts'
import { hasBuilt } from '../../src/lib/buildkit/history.ts'
import { listWorkers } from '../../src/lib/buildkit/workers.ts'
import { hasImage, imageId, tidyImages } from '../../src/lib/docker/images.ts'
import { dockerRunner } from '../../src/lib/runner/docker.ts'
import { memoryLog } from '../support/memory-log.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** An engine that accepts connections, but does not answer (any more): no wait for it may be without end. */

let folder: TempDir
let server: Server
let docker: Docker
/** What the engine is asked for, such as `GET /info`, without its version and the query. */
let asked: string[]
/** Answers a request. False if there is never an answer: then the limits that are set are over. */
let answer: (request: string, response: ServerResponse) => boolean
/** The limits that are set, in milliseconds. */
let limits: Map<AbortController, number>
beforeEach(async () => {
  folder = await tempDir()
  asked = []
  answer = () => false
  const heard = ({ method, url = '' }: IncomingMessage) => {
    const request = `${method} ${url.replace(/\?.*/, '')}`
    asked.push(request)
    return request
  }
  server = createServer((request, response) => {
    if (answer(heard(request), response)) return
    for (const limit of limits.keys()) limit.abort()
  })
  server.on('upgrade', heard)
  const socketPath = join(folder.path, 'docker.sock')
  server.listen(socketPath)
  await once(server, 'listening')
  docker = new Docker({ socketPath })
  limits = new Map()
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const limit = new AbortController()
    limits.set(limit, ms)
    return limit.signal
  })
})
afterEach(async () => {
  vi.restoreAllMocks()
  server.closeAllConnections()
  server.close()
  await folder[Symbol.asyncDispose]()
})

test.each<[string, () => Promise<unknown>]>([
  ['the id of an image', () => imageId(docker, 'acme/app')],
  ['whether it has an image', () => hasImage(docker, 'acme/app')],
  ['the images of a repository', () => tidyImages(docker, 'acme/app', 3, () => false)],
  ['its own id', () => engineEndpoint(docker).id()],
])('it is asked for %s for a limited time', async (_, ask) => {
  await expect(ask()).rejects.toMatchObject({
    kind: 'unavailable',
    message: 'cannot reach the Docker engine: no response within 30 s',
  })
  expect([...limits.values()]).toEqual([30_000])
})

test('an image is removed for a limited time', async () => {
  answer = (request, response) => {
    const images = [{ RepoTags: ['acme/app:1'], Created: 1 }]
    if (request === 'GET /images/json') response.end(JSON.stringify(images))
    return request === 'GET /images/json'
  }
  const tidying = tidyImages(docker, 'acme/app', 0, () => false)
  await expect(tidying).rejects.toMatchObject({ kind: 'unavailable' })
  expect(asked).toEqual(['GET /images/json', 'DELETE /images/acme/app:1'])
})

const endpoint = () => buildkitdEndpoint('buildkitd', { path: join(folder.path, 'docker.sock') })
test.each<[string, () => Promise<unknown>, string]>([
  [
    'a connection to its BuildKit',
    () => engineEndpoint(docker).connect(),
    'the Docker engine did not accept a connection to its BuildKit: no response within 30 s',
  ],
  ['the workers of a BuildKit', () => listWorkers(endpoint()), 'buildkitd did not respond within 30 s'],
  ['the builds of a BuildKit', () => hasBuilt(endpoint(), 'a'), 'buildkitd did not respond within 30 s'],
])('it is asked for %s for a limited time', async (_, ask, message) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const asking = ask()
    asking.catch(() => {}) // awaited below
    vi.advanceTimersByTime(30_000)
    await expect(asking).rejects.toMatchObject({ kind: 'unavailable', message })
  } finally {
    vi.useRealTimers()
  }
})

test.each(['create', 'start', 'logs', 'wait'])(
  'a build in a container that has come to "%s" can be aborted',
  async (silentFrom) => {
    const reason = new Error('it took too long')
    const end = new AbortController()
    const steps = ['create', 'start', 'logs', 'wait']
    const status: Record<string, number> = { create: 201, start: 204, logs: 200 }
    answer = (request, response) => {
      const step = steps.find((one) => request.endsWith(`/${one}`))
      if (request.startsWith('DELETE')) response.writeHead(404).end('{}')
      else if (step === silentFrom) end.abort(reason)
      else if (step) response.writeHead(status[step] ?? 500).end(step === 'create' ? '{"Id":"c"}' : '')
      else return false
      return true
    }
    const credentials = { forHost: async () => null }
    const runner = dockerRunner({ docker, image: 'builder', credentials, dataContainer: null })
    const build = { buildId: 'b', attempt: 1, repository: 'acme/app', sha: 'a'.repeat(40), branch: 'main' }
    const more = { dry: false, cache: true, cacheNamespace: 'its-own' }
    const running = runner.run({ ...build, ...more }, { log: memoryLog(), signal: end.signal })
    await expect(running).rejects.toBe(reason)
    expect(asked.at(-1)).toMatch(/^DELETE /)
  },
)
