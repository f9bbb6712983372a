import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startBuildkitd } from '../support/engines/buildkitd.ts'
import { docker } from '../support/engines/engine.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE, ensureBusybox } from '../support/images/base-images.ts'
import type { ConveyorServer } from '../support/processes.ts'
import { type ImageStore, startTrixieEngine } from '../support/trixie.ts'
import { buildLog, GITHUB_TOKEN, startWorld, type World } from '../support/world.ts'

/** Something that builds, and the server settings to use it. */
type Machine = AsyncDisposable & { settings: NodeJS.ProcessEnv }

const trixie = (store: ImageStore) => async (): Promise<Machine> => {
  const engine = await startTrixieEngine({ store })
  return {
    settings: { DOCKER_HOST: engine.dockerHost, BUILD_NETWORK: 'host' },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
}

async function buildkitd(): Promise<Machine> {
  const buildkitd = await startBuildkitd({ withGit: true })
  return {
    settings: { BUILDER: 'buildkit', BUILDKIT_ADDR: buildkitd.socket },
    [Symbol.asyncDispose]: () => buildkitd[Symbol.asyncDispose](),
  }
}

let names = 0
/** A repository of its own, in which `FROM` etc. resolve names as `contexts` says. */
async function subject(world: World, { settings }: Pick<Machine, 'settings'>, contexts: string) {
  const repository = `named/r${process.pid}-${names++}`
  const git = await world.git.create(repository)
  // The cache is exported by a second build after the first; a context that has changed by then would already be cached
  // when the test builds it.
  const env = { ...settings, BUILD_CONTEXT: contexts, CACHE_EXPORT: 'none' }
  const server = await world.startServer({ env })
  return {
    git,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    async build(files: Parameters<typeof git.commit>[0] = {}, at: ConveyorServer = server) {
      const sha = await git.commit(files, { message: `commit ${names++}` })
      return buildLog(at, await world.push(at, { repository, sha }))
    },
  }
}

/** An image whose steps see `SAYS`, only in the registry. @returns its digest */
async function pushSaying(name: string, says: string): Promise<string> {
  const { docker } = engine()
  const [repo = '', tag = ''] = name.split(/:(?=[^:]*$)/)
  const Image = BUSYBOX_IMAGE
  const container = await docker.createContainer({ Image, Cmd: ['true'], Env: [`SAYS=${says}`] })
  try {
    await container.commit({ repo, tag })
    const stream = await docker.getImage(name).push({ authconfig: { username: '', password: '' } })
    let text = ''
    for await (const chunk of stream) text += chunk.toString()
    const digest = /sha256:[0-9a-f]{64}/.exec(text)?.[0]
    if (!digest) throw new Error(`${name} was not pushed: ${text}`)
    return digest
  } finally {
    await container.remove()
    await docker.getImage(name).remove()
  }
}

const REUSED = 'nothing to build: '
const DOCKERFILE = 'FROM base\nRUN echo "it says $SAYS"\n'

describe.each([
  ['an engine with the containerd store', trixie('containerd')],
  ['an engine with the classic store', trixie('classic')],
  ['a buildkitd', buildkitd],
])('named contexts: %s', (_, start) => {
  test('an image replaces a name; a build is reused until the image changes', async () => {
    await using world = await startWorld()
    await using machine = await start()
    const image = `${world.registry.host}/named/base:1`
    await pushSaying(image, 'one')
    await using it = await subject(world, machine, `base=docker-image://${image}`)
    const first = await it.build({ Dockerfile: DOCKERFILE })
    expect(first).toContain(' it says one\n')
    expect(first).toContain('(0 of 1 steps cached, ')
    expect(await it.build()).toContain(REUSED)
    await pushSaying(image, 'two')
    const moved = await it.build()
    expect(moved).toContain(`building: base image ${image} has changed since the build of`)
    expect(moved).toContain(' it says two\n')
  })
})

test('an image that the engine has, too: it is unknown which of the two was used, so nothing is reused', async () => {
  await using world = await startWorld()
  await using machine = await startTrixieEngine({ store: 'containerd' })
  await ensureBusybox(docker(machine))
  const settings = { DOCKER_HOST: machine.dockerHost, BUILD_NETWORK: 'host' }
  await using it = await subject(world, { settings }, `base=docker-image://${BUSYBOX_IMAGE}`)
  expect(await it.build({ Dockerfile: DOCKERFILE })).toContain(' it says \n')
  expect(await it.build()).toMatch(/building: the build of .* cannot be compared/)
})

describe('kinds of named contexts', () => {
  const resources = new AsyncDisposableStack()
  let world: World
  let machine: Machine
  beforeAll(async () => {
    world = resources.use(await startWorld())
    machine = resources.use(await buildkitd())
  })
  afterAll(() => resources.disposeAsync())

  test('an image by digest: later changes of its tag do not matter, another setting does', async () => {
    const image = `${world.registry.host}/named/pinned:1`
    const [one, two] = [await pushSaying(image, 'one'), await pushSaying(image, 'two')]
    await using it = await subject(world, machine, `base=docker-image://${image}@${one}`)
    expect(await it.build({ Dockerfile: DOCKERFILE })).toContain(' it says one\n')
    expect(await it.build()).toContain(REUSED)
    await it[Symbol.asyncDispose]()
    const other = { ...machine.settings, BUILD_CONTEXT: `base=docker-image://${image}@${two}` }
    await using again = await world.startServer({ env: other })
    const changed = await it.build({}, again)
    expect(changed).toContain('building: the build settings (network, arguments, target and so on) changed')
    expect(changed).toContain(' it says two\n')
  })

  test('a git repository: a branch may change at any time, a commit never does', async () => {
    const library = `named/library-${process.pid}`
    const git = await world.git.create(library)
    const sha = await git.commit({ 'src/text': 'of the first\n' })
    const url = world.git.urlTemplate.replace('{repository}', library)
    const image = `${world.registry.host}/named/tools:1`
    await pushSaying(image, 'nothing')
    const Dockerfile = `FROM ${image}\nCOPY --from=library text /text\nRUN cat /text # ${names++}\n`

    // The image is private.
    await mkdir(join(world.dataDir, 'secrets'))
    await writeFile(join(world.dataDir, 'secrets', 'GIT_AUTH_TOKEN'), GITHUB_TOKEN)
    {
      await using it = await subject(world, machine, `library=${url}#main:src`)
      expect(await it.build({ Dockerfile })).toContain(' of the first\n')
      await git.commit({ 'src/text': 'of the second\n' })
      const second = await it.build()
      expect(second).toMatch(/building: the build of .* cannot be compared \(.*named context/)
      expect(second).toContain(' of the second\n')
    }
    await using it = await subject(world, machine, `library=${url}#${sha}:src`)
    expect(await it.build({ Dockerfile: `${Dockerfile}RUN cat /text /text\n` })).toContain(' of the first\n')
    expect(await it.build()).toContain(REUSED)
  })

  test('a file at a URL: it is downloaded again', async () => {
    let text = 'before\n'
    const files = createServer((_, response) => response.end(text)).listen(0, '127.0.0.1')
    resources.defer(() => void files.close())
    await new Promise((resolve) => files.once('listening', resolve))
    const url = `http://127.0.0.1:${(files.address() as AddressInfo).port}/text`
    const image = `${world.registry.host}/named/tools:2`
    await pushSaying(image, 'nothing')
    await using it = await subject(world, machine, `file=${url}`)
    expect(
      await it.build({
        Dockerfile: `FROM ${image}\nCOPY --from=file / /got/\nRUN cat /got/* # ${names++}\n`,
      }),
    ).toContain(' before\n')
    text = 'after\n'
    const second = await it.build()
    expect(second).toMatch(/building: the build of .* cannot be compared/)
    expect(second).toContain(' after\n')
  })

  test('a missing image is reported like a base image', async () => {
    const missing = `${world.registry.host}/named/missing:1`
    await using it = await subject(world, machine, `base=docker-image://${missing}`)
    expect(await it.build({ Dockerfile: DOCKERFILE })).toContain(
      `base image ${missing}: the registry does not have it (HTTP 404). Check the name`,
    )
  })
})
