import { afterAll, beforeAll, expect, test } from 'vitest'
import { engine } from '../../support/global-setup.ts'
import { makeBuilderImage } from '../../support/images/builder-images.ts'
import { PUSHING_SCRIPT } from '../../support/images/pushing-script.ts'
import { pushToEnd, startWorld, type World } from '../../support/world.ts'

/** A server that builds in containers of a team's own image, as its flags say. */

const IMAGE = `conveyor-test/builder-flag:${process.pid}`
const FLAGS = ['--builder.image', IMAGE, '--builder.data', 'none', '--builder.network', 'host']

let world: World
beforeAll(async () => {
  world = await startWorld()
  await makeBuilderImage(engine().docker, IMAGE, { script: PUSHING_SCRIPT })
})
afterAll(async () => {
  await engine().docker.getImage(IMAGE).remove({ force: true })
  await world[Symbol.asyncDispose]()
})

test('a push is built by the image, and published like any other', async () => {
  await using server = await world.startServer({ flags: FLAGS })
  const repository = 'Acme/Own'
  const git = await world.git.create(repository)
  const sha = await git.commit({ anything: 'at all' })
  const { status, build, log } = await pushToEnd(world, server, { repository, sha, branch: 'feature/x' })
  expect(status.state).toBe('success')
  expect(log).toContain(`building acme/own@${sha}, cache on`)
  const digest = await world.digest('acme/own', sha)
  expect(build.image).toBe(`${world.registry.host}/acme/own@${digest}`)
  expect(await world.digest('acme/own', 'feature-x')).toBe(digest)
  expect(await world.digest('acme/own', 'latest')).toBe(digest)
})

test('a missing image is a failure with a hint', async () => {
  const missing = `${world.registry.host}/acme/no-such-builder`
  await using server = await world.startServer({
    flags: ['--builder.data', 'none', '--builder.image', missing],
  })
  const git = await world.git.create('acme/missing')
  const sha = await git.commit({ anything: 'else' })
  const { status, log } = await pushToEnd(world, server, { repository: 'acme/missing', sha })
  expect(status.state).toBe('failure')
  expect(log).toContain(`the builder image ${missing} was not found`)
  expect(log).toContain('set another one with --builder.image (BUILDER_IMAGE)')
})
