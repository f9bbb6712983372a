import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startGitServer } from '../support/git/server.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE } from '../support/images/base-images.ts'
import { machines, stateOf } from '../support/images/bootstrap.ts'
import { conveyorImageArguments } from '../support/images/conveyor-image.ts'
import { runConveyor, startConveyor } from '../support/processes.ts'
import { startRegistry } from '../support/registry/registry.ts'

/** The builder image that `conveyor bootstrap` makes, from dist and node_modules in this checkout. */

const IMAGE = `conveyor-test/bootstrap:${process.pid}`
const machine = machines({ withKey: true })
const imageOf = (name: string) => engine().docker.getImage(name)

/** Arguments for building it here. */
let args: string[]
beforeAll(async () => {
  const buildArgs = Object.entries(await conveyorImageArguments(engine().docker))
  args = buildArgs.flatMap(([name, value]) => ['--build-arg', `${name}=${value}`])
  args.push('--build.network', engine().network ?? 'default')
})

const made = new Set<string>()
afterEach(async () => {
  const found = await engine().docker.listImages({ filters: { reference: [IMAGE] } })
  for (const { Id } of found) made.add(Id)
})
afterAll(async () => {
  const busybox = (await imageOf(BUSYBOX_IMAGE).inspect()).Id
  for (const id of made) await imageOf(id === busybox ? IMAGE : id).remove({ force: true })
})

const bootstrap = (more: string[] = args) => machine.bootstrap(['--builder.image', IMAGE, ...more])

describe('the builder image of conveyor bootstrap', () => {
  test('whose base image cannot be pulled is reported with a hint, and everything else is created', async () => {
    const { stdout, code } = await bootstrap(['--build-arg', 'NODE_IMAGE=127.0.0.1:1/node:24'])
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +builder image: .*127\.0\.0\.1:1.*--build-arg NODE_IMAGE=IMAGE/m)
    expect(stateOf(stdout, 'container')).toBe('created')
    expect(stateOf(stdout, 'settings')).toBe('created')
  })

  test('is built once, and again with other arguments', async () => {
    const first = await bootstrap()
    expect(first.code, first.stderr).toBe(0)
    expect(stateOf(first.stdout, 'builder image')).toBe('created')
    const { Id, Config } = await imageOf(IMAGE).inspect()
    made.add(Id)
    expect(Config.Entrypoint).toEqual(['tini', '--', 'conveyor', 'builder'])

    expect(stateOf((await bootstrap()).stdout, 'builder image')).toBe('ok')
    expect((await imageOf(IMAGE).inspect()).Id).toBe(Id)
    const other = await bootstrap([...args, '--build-arg', 'OTHER=1'])
    expect(other.stdout).toMatch(/^updated +builder image .*, rebuilt from newer files$/m)
  })

  test('builds for a server, with the logins that bootstrap has copied', async () => {
    const login = { username: 'robot', password: 'secret-of-the-robot' }
    await using git = await startGitServer()
    await using registry = await startRegistry({ htpasswd: login })
    const auth = Buffer.from(`${login.username}:${login.password}`).toString('base64')
    await machine.dockerConfig({ auths: { [registry.host]: { auth } } })
    expect((await bootstrap()).code).toBe(0)

    const repository = 'acme/bootstrapped'
    const repo = await git.create(repository)
    const sha = await repo.commit({
      Dockerfile: `FROM ${BUSYBOX_IMAGE}\nCOPY . /app\n`,
      message: machine.data(),
    })
    const socket = engine().dockerHost.replace('unix://', '')
    const network = engine().network ?? 'default'
    await using server = await startConveyor(
      [
        ...['server', '--builder', 'image', '--builder.image', IMAGE, '--builder.network', network],
        ...['--builder.mount', `${socket}:/var/run/docker.sock`, '--build.network', network],
      ],
      {
        env: {
          ...machine.environment(),
          ...{ PORT: '0', HOST: '127.0.0.1', REGISTRY: registry.host, GIT_URL: git.urlTemplate },
        },
      },
    )
    const built = await runConveyor(['build', `${repository}:${sha}`, '--url', server.url])
    expect(built.code, built.stderr).toBe(0)
    expect(built.stdout).toMatch(new RegExp(`^${registry.host}/${repository}@sha256:`))
    expect(built.stderr).not.toContain(login.password)
    await imageOf(`${registry.host}/${repository}:${sha}`).remove({ force: true })
  })

  test('is left alone if bootstrap did not create it', async () => {
    const [repo = '', tag = ''] = IMAGE.split(':')
    await imageOf(BUSYBOX_IMAGE).tag({ repo, tag })
    const { stdout, code } = await bootstrap()
    expect(stdout).toMatch(/^ok +builder image .*left unchanged$/m)
    expect(code).toBe(0)
    expect((await imageOf(IMAGE).inspect()).Id).toBe((await imageOf(BUSYBOX_IMAGE).inspect()).Id)
  })
})
