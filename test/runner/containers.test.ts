import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import Docker from 'dockerode'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CredentialStore } from '../../src/lib/registry/registry.ts'
import { dockerRunner } from '../../src/lib/runner/docker.ts'
import type { Runner } from '../../src/lib/runner/runner.ts'
import { swarmRunner } from '../../src/lib/runner/swarm/runner.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** How runners find the containers and services of builds. The contract has the same with real engines. */

const NOBODY: CredentialStore = { forHost: async () => null }
const FOUND = { Id: 'one', ID: 'one', Labels: { 'conveyor.build': 'b', 'conveyor.attempt': '3' } }
const EARLIER = { Id: 'two', ID: 'two', Labels: { 'conveyor.build': 'c' } }

let folder: TempDir
let server: Server
let docker: Docker
/** What the engine was asked for, without its version. */
let asked: string[]
let status: number
beforeEach(async () => {
  folder = await tempDir()
  asked = []
  status = 200
  server = createServer(({ method, url = '' }, response) => {
    asked.push(`${method} ${decodeURIComponent(url)}`)
    const isEmpty = method === 'DELETE' && url.includes('/containers/')
    response.statusCode = isEmpty && status === 200 ? 204 : status
    response.setHeader('content-type', 'application/json')
    const all = [FOUND, EARLIER].map((one) => ({ ...one, Spec: { Labels: one.Labels } }))
    response.end(status === 200 ? (method === 'GET' ? JSON.stringify(all) : '') : '{"message":"no"}')
  })
  const socketPath = join(folder.path, 'docker.sock')
  server.listen(socketPath)
  await once(server, 'listening')
  docker = new Docker({ socketPath })
})
afterEach(async () => {
  server.closeAllConnections()
  server.close()
  await folder[Symbol.asyncDispose]()
})

const RUNNERS: [string, () => Runner, string, string][] = [
  [
    'an engine',
    () => dockerRunner({ docker, image: 'builder', credentials: NOBODY }),
    '/containers/json?all=true&filters=',
    '/containers/one?',
  ],
  [
    'a Swarm',
    () => swarmRunner({ docker, image: 'builder', credentials: NOBODY }),
    '/services?filters=',
    '/services/one',
  ],
]

test.each(RUNNERS)('%s names the builds and attempts of all or of one', async (_, runner, list) => {
  const found = await runner().containers()
  expect(found).toMatchObject([
    { buildId: 'b', attempt: 3 },
    { buildId: 'c', attempt: null },
  ])
  await runner().containers('b')
  expect(asked).toEqual([
    `GET ${list}{"label":["conveyor.build"]}`,
    `GET ${list}{"label":["conveyor.build=b"]}`,
  ])
})

test.each(RUNNERS)(
  '%s removes one by its id, and takes one that is gone for removed',
  async (_, runner, __, path) => {
    const [found] = await runner().containers()
    await found?.remove()
    status = 404
    await found?.remove()
    expect(asked.slice(1).map((one) => one.startsWith(`DELETE ${path}`))).toEqual([true, true])
    status = 500
    await expect(found?.remove()).rejects.toMatchObject({ kind: 'unavailable' })
  },
)
