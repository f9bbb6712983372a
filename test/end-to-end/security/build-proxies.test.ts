import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dockerProxies } from '../../../src/lib/config/docker-proxies.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** The `proxies` of docker's config.json, for the steps of builds. */

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld()
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

async function configure(config: unknown): Promise<void> {
  await writeFile(join(world.dataDir, 'config.json'), JSON.stringify(config))
}

async function logOf(sha: string, repository: string): Promise<string> {
  const id = await world.push(server, { repository, sha })
  await world.github.waitForStatus((status) => status.sha === sha && status.state === 'success')
  return buildLog(server, id)
}

test('steps get them, they do not affect images, and no log shows their password', async () => {
  const git = await world.git.create('proxied/app')
  // Different in each run: a cached step prints nothing.
  const Dockerfile = `FROM conveyor-test/busybox:1\nRUN : ${randomUUID()}; echo "first: $http_proxy|$HTTPS_PROXY|$no_proxy."\n`
  await configure({
    proxies: {
      default: {
        httpProxy: 'http://me:hu%40sh@proxy.test:3128',
        httpsProxy: 'http://one.test',
        noProxy: '.lan',
      },
      'tcp://elsewhere:2375': { httpProxy: 'http://not-this-one.test' },
    },
  })
  const one = await git.commit({ Dockerfile })
  const first = await logOf(one, 'proxied/app')
  expect(first).toMatch(/first: http:\/\/\*\*\*@proxy\.test:3128\|http:\/\/one\.test\|\.lan\.\n/)
  expect(first).not.toMatch(/hu%40sh|hu@sh/)

  // Other proxies apply without a restart, but do not cause a cached step to be rebuilt.
  await configure({ proxies: { default: { httpProxy: 'http://two.test' } } })
  const two = await git.commit({
    Dockerfile: `${Dockerfile}RUN echo "second: $HTTP_PROXY|$https_proxy."; env | grep -ci proxy\n`,
  })
  const second = await logOf(two, 'proxied/app')
  expect(second).toMatch(/second: http:\/\/two\.test\|\.\n/)
  expect(second).toContain('1 of 2 steps cached')
})

test("the engine's proxies take precedence over the default", async () => {
  await configure({ proxies: { default: { httpProxy: 'http://a' }, 'tcp://b:1': { allProxy: 'http://b' } } })
  expect(await dockerProxies(world.dataDir, 'tcp://b:1')).toEqual({
    ALL_PROXY: 'http://b',
    all_proxy: 'http://b',
  })
  expect(await dockerProxies(world.dataDir, null)).toEqual({ HTTP_PROXY: 'http://a', http_proxy: 'http://a' })
  expect(await dockerProxies(join(world.dataDir, 'none'), null)).toEqual({})
})

test.each([
  [{ proxies: [] }, 'proxies is not an object'],
  [{ proxies: { default: 'x' } }, 'proxies has an entry that is not an object'],
  [{ proxies: { default: { httpProxy: 1 } } }, 'httpProxy of proxies is not a string'],
])('%j is refused', async (config, why) => {
  await configure(config)
  const file = join(world.dataDir, 'config.json')
  await expect(dockerProxies(world.dataDir, null)).rejects.toMatchObject({ message: `${file}: ${why}` })
})
