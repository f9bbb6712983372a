import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engine } from '../../support/global-setup.ts'
import { MANIFEST_TYPES } from '../../support/images/pushed-image.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { tempDir } from '../../support/temp.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** Every run of its last step results in a different image, so an identical image was not rebuilt. */
const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\nRUN date +%N > /now\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ flags: ['--workers', '4'] })
  server = await world.startServer()
})
afterAll(async () => {
  await server.kill()
  await world[Symbol.asyncDispose]()
})

let repositories = 0
/** A repository, and functions to build its commits. */
async function subject() {
  const repository = `reuse/r${process.pid}-${repositories++}`
  const git = await world.git.create(repository)
  return {
    repository,
    git,
    async build(
      sha: string,
      push: { branch?: string; message?: string; tag?: string; tree?: string } = {},
      at: ConveyorServer = server,
    ) {
      const log = await buildLog(at, await world.push(at, { repository, sha, ...push }))
      const digest = await world.digest(repository, sha)
      if (!digest) throw new Error(`no image of ${sha}:\n${log}`)
      return { log, digest, reused: log.includes('nothing to build:') }
    },
  }
}

const BASE_DOCKERFILE = (from: string) => `FROM ${from}\nRUN date +%N > /now\n`

/** Pushes an image with new content to the registry under this name, and removes it from the engine. */
async function pushBase(name: string): Promise<string> {
  const { docker } = engine()
  const [repo = '', tag = ''] = name.split(/:(?=[^:]*$)/)
  const container = await docker.createContainer({
    Image: 'conveyor-test/busybox:1',
    Cmd: ['true'],
    Env: [`AT=${performance.now()}`],
  })
  try {
    await container.commit({ repo, tag })
    const stream = await docker.getImage(name).push({ authconfig: { username: '', password: '' } })
    let text = ''
    for await (const chunk of stream) text += chunk.toString()
    expect(text).not.toContain('"error"')
  } finally {
    await container.remove()
    await docker.getImage(name).remove()
  }
  return name
}

describe('an image is built once', () => {
  test('the same commit, a revert and a merge reuse the image, under their own sha', async () => {
    const { git, build, repository } = await subject()
    const one = await git.commit({ Dockerfile: DOCKERFILE, a: '1' })
    const two = await git.commit({ a: '2' })
    const revert = await git.commit({ a: '1' })
    const first = await build(one)
    expect(first.log).toContain(`building: the first build of ${repository}`)
    const second = await build(two)
    expect(second.log).toContain(`building: a changed since ${one.slice(0, 7)}`)
    expect(second.digest).not.toBe(first.digest)

    const third = await build(revert)
    expect(third.log).toContain(`nothing to build: same content as ${one.slice(0, 7)}`)
    expect(third.digest).toBe(first.digest)
    expect(await world.digest(repository, 'main')).toBe(first.digest)
    expect(await world.digest(repository, 'latest')).toBe(first.digest)
    const again = await build(revert, { branch: 'release' })
    expect(again).toMatchObject({ reused: true, digest: first.digest })
    expect(await world.digest(repository, 'release')).toBe(first.digest)

    const artifact = await (await fetch(`${server.url}/artifacts/${repository}@${revert}`)).json()
    expect(artifact).toMatchObject({
      image: `${world.registry.host}/${repository}@${first.digest}`,
      shas: [one, revert],
    })
  })

  test('a commit with a tree that was built before is not even fetched, and later changes are still reported', async () => {
    const { git, build, repository } = await subject()
    const one = await build(await git.commit({ Dockerfile: DOCKERFILE, a: '1' }))
    await build(await git.commit({ a: '2' }))
    const revert = await git.commit({ a: '1' })
    const asked = () => world.git.requests.filter(({ url }) => url.includes(repository)).length
    const before = asked()
    // One that takes a second, on a busy machine, is reported as pending before.
    const successes = () =>
      world.github.statuses
        .filter((one) => one.repository === repository && one.sha === revert && one.state !== 'pending')
        .map(({ state }) => state)
    expect(await build(revert)).toMatchObject({ reused: true, digest: one.digest })
    await expect.poll(successes).toEqual(['success'])
    expect(await build(revert, { tag: 'v1' })).toMatchObject({ reused: true, digest: one.digest })
    await expect.poll(successes).toEqual(['success', 'success'])
    expect(asked()).toBe(before)
    const next = await build(await git.commit({ b: '1' }))
    expect(next.log).toContain(`building: b changed since ${revert.slice(0, 7)}`)
  })

  test('a change that .dockerignore excludes', async () => {
    const { git, build } = await subject()
    const one = await build(
      await git.commit({ Dockerfile: DOCKERFILE, '.dockerignore': 'docs\n', 'docs/a.md': 'a', src: 's' }),
    )
    const two = await build(await git.commit({ 'docs/a.md': 'b' }))
    expect(two).toMatchObject({ reused: true, digest: one.digest })
  })
})

describe('reuse never serves a wrong image', () => {
  test.each<[string, Parameters<Awaited<ReturnType<typeof subject>>['git']['commit']>[0], string]>([
    ['another Dockerfile', { Dockerfile: `${DOCKERFILE}# more\n` }, 'Dockerfile changed since'],
    ['another .dockerignore', { '.dockerignore': 'b\n' }, '.dockerignore changed since'],
    ['a file that became executable', { a: { content: 'a', mode: 0o755 } }, 'a changed since'],
    ['a file that became a symlink', { a: { symlink: 'b' } }, 'a changed since'],
    ['a file under another path', { a: null, c: 'a' }, 'a, c changed since'],
    ['a file that is gone', { a: null }, 'a changed since'],
  ])('%s', async (_, change, why) => {
    const { git, build } = await subject()
    const one = await build(await git.commit({ Dockerfile: DOCKERFILE, a: 'a', b: 'b' }))
    const two = await build(await git.commit(change))
    expect(two.reused).toBe(false)
    expect(two.log).toContain(why)
    expect(two.digest).not.toBe(one.digest)
  })

  test('an untrusted tree: of a tag, and of an unsigned webhook', async () => {
    const { git, build, repository } = await subject()
    const one = await git.commit({ Dockerfile: DOCKERFILE, a: '1' })
    const first = await build(one)
    const tree = (await world.git.treeOf(repository, one)) as string
    const two = await build(await git.commit({ a: '2' }), { tag: 'v2', tree })
    expect(two.log).toContain(`building: a changed since ${one.slice(0, 7)}`)

    await using data = await tempDir()
    const open = await world.startServer({ env: { GITHUB_SECRET: '', DATA_DIR: data.path } })
    world.github.setHead(repository, 'main', one)
    await build(one, {}, open)
    const changed = await git.commit({ a: '3' })
    world.github.setHead(repository, 'main', changed)
    const three = await build(changed, { tree }, open)
    expect(three.log).toContain(`building: a changed since ${one.slice(0, 7)}`)
    expect(three.digest).not.toBe(first.digest)
    await open.kill()
  })

  test('a base image that moved in its registry', async () => {
    const { git, build } = await subject()
    const base = await pushBase(`${world.registry.host}/reuse/base:1`)
    const one = await build(await git.commit({ Dockerfile: BASE_DOCKERFILE(base) }))
    const again = await git.commit({}, { message: 'empty' })
    expect(await build(again)).toMatchObject({ reused: true, digest: one.digest })
    await pushBase(base)
    const moved = await build(await git.commit({}, { message: 'empty too' }))
    expect(moved.log).toContain(`base image ${base} has changed since the build of`)
    expect(moved.digest).not.toBe(one.digest)
  })

  test('a local base image of the engine that has changed', async () => {
    const { git, build } = await subject()
    const name = `reuse-base-${process.pid}:1`
    const { docker } = engine()
    const base = async () => {
      const container = await docker.createContainer({
        Image: 'conveyor-test/busybox:1',
        Cmd: ['true'],
        Env: [`AT=${performance.now()}`],
      })
      await container.commit({ repo: name.slice(0, -2), tag: '1' })
      await container.remove()
    }
    try {
      await base()
      const one = await build(await git.commit({ Dockerfile: BASE_DOCKERFILE(name) }))
      expect(await build(await git.commit({}, { message: 'empty' }))).toMatchObject({
        reused: true,
        digest: one.digest,
      })
      await base()
      const moved = await build(await git.commit({}, { message: 'empty too' }))
      expect(moved.log).toContain('has changed since the build of')
      expect(moved.digest).not.toBe(one.digest)
    } finally {
      await docker.getImage(name).remove()
    }
  })

  test('an image that COPY --from names, in its registry', async () => {
    const { git, build } = await subject()
    const tool = await pushBase(`${world.registry.host}/reuse/tool:1`)
    const dockerfile = `FROM conveyor-test/busybox:1\nCOPY --from=${tool} /bin/busybox /tool\nRUN date +%N > /now\n`
    const one = await build(await git.commit({ Dockerfile: dockerfile }))
    expect(await build(await git.commit({}, { message: 'empty' }))).toMatchObject({
      reused: true,
      digest: one.digest,
    })
    await pushBase(tool)
    const moved = await build(await git.commit({}, { message: 'empty too' }))
    expect(moved.reused).toBe(false)
    expect(moved.log).toContain(`base image ${tool} has changed`)
  })

  test('a file that ADD downloads from a URL is downloaded again', async () => {
    const { git, build } = await subject()
    const dockerfile = `FROM conveyor-test/busybox:1\nADD ${world.registry.url}/v2/ /v2\n`
    await build(await git.commit({ Dockerfile: dockerfile }))
    const two = await build(await git.commit({}, { message: 'empty' }))
    expect(two.reused).toBe(false)
    expect(two.log).toContain('cannot be compared (ADD of a URL')
  })

  test('[docker nocache]', async () => {
    const { git, build } = await subject()
    const one = await build(await git.commit({ Dockerfile: DOCKERFILE }))
    const two = await build(await git.commit({}, { message: 'empty' }), { message: 'x [docker nocache]' })
    expect(two.reused).toBe(false)
    expect(two.digest).not.toBe(one.digest)
  })

  test('an image that is gone from the registry', async () => {
    const { git, build, repository } = await subject()
    const sha = await git.commit({ Dockerfile: DOCKERFILE })
    const one = await build(sha)
    const gone = await fetch(`${world.registry.url}/v2/${repository}/manifests/${one.digest}`, {
      method: 'DELETE',
    })
    expect(gone.status).toBe(202)
    const two = await build(await git.commit({}, { message: 'empty' }))
    expect(two.log).toContain(`the image of the build of ${sha.slice(0, 7)} is gone from the registry`)
    expect(await world.digest(repository, 'main')).toBe(two.digest)
  })

  test('an image whose layers are gone from the registry', async () => {
    const { git, build, repository } = await subject()
    const one = await build(await git.commit({ Dockerfile: DOCKERFILE }))
    const manifest = await fetch(`${world.registry.url}/v2/${repository}/manifests/${one.digest}`, {
      headers: { accept: MANIFEST_TYPES },
    })
    const { layers } = (await manifest.json()) as { layers: { digest: string }[] }
    const blob = `${world.registry.url}/v2/${repository}/blobs/${layers.at(-1)?.digest}`
    expect((await fetch(blob, { method: 'DELETE' })).status).toBe(202)
    const two = await build(await git.commit({}, { message: 'empty' }))
    expect(two.log).toContain('building after all: ')
    expect((await fetch(blob, { method: 'HEAD' })).status).toBe(200)
    expect(await world.digest(repository, 'main')).toBe(two.digest)
  })

  test('the same content in another repository is built', async () => {
    const [one, two] = [await subject(), await subject()]
    const files = { Dockerfile: DOCKERFILE, a: 'same' }
    await one.build(await one.git.commit(files))
    expect((await two.build(await two.git.commit(files))).reused).toBe(false)
  })
})

test('concurrent builds of one repository do not interfere', async () => {
  const { git, build } = await subject()
  const dockerfile =
    'FROM conveyor-test/busybox:1\nCOPY . /app\nRUN sleep 0.3; echo "a=$(cat /app/a) b=$(cat /app/b)"\n'
  // The step must run, and not be in the engine's cache from an earlier run of this test.
  const run = randomUUID()
  const shas: string[] = []
  for (const at of [1, 2, 3, 4, 5, 6]) {
    // Equal sizes, and `b` alternates: an engine's file sync could mix these up.
    shas.push(await git.commit({ Dockerfile: dockerfile, a: `${run}-${at}`, b: `${at % 2}` }))
  }
  const logs = await Promise.all(shas.map((sha, index) => build(sha, { branch: `b${index}` })))
  for (const [index, { log }] of logs.entries()) {
    expect(log).toContain(` a=${run}-${index + 1} b=${(index + 1) % 2}\n`)
  }
  expect(new Set(logs.map(({ digest }) => digest)).size).toBe(shas.length)
})
