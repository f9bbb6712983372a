import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { BuildJson } from '../../../src/lib/api/build.ts'
import { pushBase } from '../../builder/builder.contract.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { frontOf, type HttpDouble } from '../../support/registry/doubles.ts'
import { buildLog, type Push, startWorld, type World } from '../../support/world.ts'

/** Every run of its last step results in a different image, so an identical image was not rebuilt. */
const dockerfile = (from: string) => `FROM ${from}\nCOPY . /app\nRUN date +%N > /now\n`

/** What the registry's front refuses: HEAD of the manifests of images whose name contains this. */
let refused: { status: number; name: string } | null = null
let world: World
let front: HttpDouble
let server: ConveyorServer
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  world = resources.use(await startWorld())
  front = resources.use(
    await frontOf(world.registry.host, ({ method, url = '' }, res) => {
      const isRefused = method === 'HEAD' && url.includes('/manifests/') && url.includes(refused?.name ?? '')
      if (!refused || !isRefused) return false
      res.writeHead(refused.status).end()
      return true
    }),
  )
  server = await world.startServer({ env: { REGISTRY: front.host } })
})
afterAll(() => resources.disposeAsync())
beforeEach(() => {
  refused = null
})

let repositories = 0
/** A repository whose first commit is built, and functions to build another one with the same content. */
async function subject(from = 'conveyor-test/busybox:1') {
  const repository = `refused/r${process.pid}-${repositories++}`
  const git = await world.git.create(repository)
  const push = async (more: Omit<Push, 'repository'>) => {
    const id = await world.push(server, { repository, ...more })
    const log = await buildLog(server, id)
    const build = (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson
    return { log, build, digest: await world.digest(repository, more.sha) }
  }
  const first = await push({ sha: await git.commit({ Dockerfile: dockerfile(from), a: '1' }) })
  expect(first.build.state).toBe('succeeded')
  return {
    first,
    again: async () => push({ sha: await git.commit({}, { message: 'empty' }) }),
    /** The same tree on another branch, which is looked up before it is fetched. */
    onBranch: async (branch: string) => push({ sha: first.build.sha, branch }),
  }
}

test.each([401, 403, 500])('a lookup that is answered with %d leads to a build', async (status) => {
  const { first, again, onBranch } = await subject()
  refused = { status, name: 'refused/' }
  for (const built of [await again(), await onBranch('other')]) {
    expect(built.build).toMatchObject({ state: 'succeeded', error: null })
    expect(built.log).toMatch(
      /^building: could not check whether the registry still has the image of the build of /m,
    )
    expect(built.log).toMatch(status === 401 ? /requires a login/ : new RegExp(`HTTP ${status}`))
    expect(built.log.match(/^building: /gm)).toHaveLength(1)
    expect(built.digest).toMatch(/^sha256:/)
  }
  refused = null
  const later = await again()
  expect(later.log).toContain('nothing to build: ')
  expect(later.digest).not.toBe(first.digest)
})

test.each([405, 501])('a registry without HEAD support (%d) is queried with GET', async (status) => {
  const { first, again } = await subject()
  refused = { status, name: 'refused/' }
  const same = await again()
  expect(same.log).toContain('nothing to build: ')
  expect(same.digest).toBe(first.digest)
})

test.each([401, 403, 429, 500])(
  'a base image that cannot be looked up (%d) may have changed',
  async (status) => {
    const base = (await pushBase(world.registry.host)).replace(world.registry.host, front.host)
    const { first, again } = await subject(base)
    expect((await again()).digest).toBe(first.digest)
    refused = { status, name: 'base/busybox' }
    const built = await again()
    // The engine requests it in its own way, and is refused as well.
    expect(built.log).toContain(`building: base image ${base} may have changed (it could not be looked up: `)
  },
)
