import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pushBase } from '../../builder/builder.contract.ts'
import { MANIFEST_TYPES } from '../../support/images/pushed-image.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { pushBlob } from '../../support/registry/doubles.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** Dockerfiles are read as BuildKit reads them: an image that one uses has moved, or has not. */

let world: World
let server: ConveyorServer
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  world = resources.use(await startWorld())
  await pushBase(world.registry.host)
  server = await world.startServer()
})
afterAll(() => resources.disposeAsync())

type Manifest = { layers: unknown; config: { digest: string } }
type Config = { config: { Env: string[] } }

let contents = 0
/**
 * Makes a tag point at an image with new content, only in the registry.
 * @param layers whether it has those of busybox, or none at all
 * @returns its digest
 */
async function move(name: string, layers = true): Promise<string> {
  const { url } = world.registry
  const of = `${url}/v2/base/busybox`
  const from = await fetch(`${of}/manifests/1`, { headers: { accept: MANIFEST_TYPES } })
  const manifest = (await from.json()) as Manifest
  const config = (await (await fetch(`${of}/blobs/${manifest.config.digest}`)).json()) as Config
  config.config.Env.push(`CONTENT=${contents++}`)
  if (!layers) Object.assign(config, { rootfs: { type: 'layers', diff_ids: [] }, history: [] })
  const blob = await pushBlob(url, 'base/busybox', Buffer.from(JSON.stringify(config)))
  const moved = {
    ...manifest,
    config: { ...manifest.config, ...blob },
    layers: layers ? manifest.layers : [],
  }
  const bytes = JSON.stringify(moved)
  const put = await fetch(`${of}/manifests/${name}`, {
    method: 'PUT',
    headers: { 'content-type': from.headers.get('content-type') ?? '' },
    body: bytes,
  })
  expect(put.status).toBe(201)
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

let repositories = 0
async function subject(dockerfile: string) {
  const repository = `read/r${process.pid}-${repositories++}`
  const git = await world.git.create(repository)
  const build = async (files: Record<string, string>) => {
    const sha = await git.commit(files, { message: `commit ${contents++}` })
    return buildLog(server, await world.push(server, { repository, sha }))
  }
  expect(await build({ Dockerfile: dockerfile, a: 'a' })).toContain('\nimage ')
  return { again: () => build({}) }
}

const REUSED = 'nothing to build: '
const CHANGED = 'building: base image '

test.each([
  ['a comment with its digest', '# was @D\nARG TAG=@T\nFROM @I:$[TAG]\nCOPY . /app\n'],
  ['a stage with its digest', 'ARG TAG=@T\nFROM @I:@T@@D AS p\nFROM @I:$[TAG]\nCOPY . /app\n'],
  ['a label with its digest', 'FROM @I:@T\nLABEL was=@D\nCOPY . /app\n'],
  ['a continued line', 'FROM \\\n  # by hand\n  @I:@T\nCOPY . /app\n'],
  ['COPY --from in a stage', 'FROM @I:1 AS s\nCOPY --from="@I:@T" /bin/sh /x\nFROM s\nCOPY . /app\n'],
  ['a mount', 'FROM @I:1\nRUN --mount=target=/m,from=@I:@T cp /m/bin/sh /x\n'],
])('a tag that moves, with %s', async (_, text) => {
  const tag = `t${contents++}`
  const digest = await move(tag)
  const image = `${world.registry.host}/base/busybox`
  const dockerfile = text
    .replaceAll('@T', tag)
    .replaceAll('@I', image)
    .replaceAll('@D', digest)
    .replace(/\[(\w+)\]/g, '{$1}')
  const { again } = await subject(dockerfile)
  expect(await again()).toContain(REUSED)
  await move(tag)
  expect(await again()).toContain(`${CHANGED}${image}:${tag} has changed`)
})

test('an image without layers, for which BuildKit has no step', async () => {
  await move('empty', false)
  const image = `${world.registry.host}/base/busybox:empty`
  const { again } = await subject(`FROM ${image}\nCOPY . /app\n`)
  // It is not certain that it did not move during the build.
  expect(await again()).not.toContain(REUSED)
})

test.each([
  ['in a comment', '# FROM @I:@T\n  # COPY --from=@I:@T /bin/sh /x\nFROM @I:1\nCOPY . /app\n'],
  ['in a command', 'FROM @I:1\nRUN echo --from=@I:@T\nCOPY . /app\n'],
  ['in a stage that is not needed', 'FROM @I:@T AS tests\nFROM @I:1\nCOPY . /app\n'],
])('a new image under the name %s changes nothing', async (_, text) => {
  const tag = `t${contents++}`
  await move(tag)
  const image = `${world.registry.host}/base/busybox`
  const { again } = await subject(text.replaceAll('@T', tag).replaceAll('@I', image))
  await move(tag)
  expect(await again()).toContain(REUSED)
})

test('an image by digest is not looked up', async () => {
  const digest = await move('pinned')
  const { again } = await subject(`FROM ${world.registry.host}/base/busybox:pinned@${digest}\nCOPY . /app\n`)
  await move('pinned')
  expect(await again()).toContain(REUSED)
})

test.each([
  ['behind a file', 'ADD a @U/v2/ /d/'],
  ['by an argument', 'ARG U=@U\nADD $[U:-x]/v2/ /d/'],
  ['as JSON', 'ADD ["a", "@U/v2/", "/d/"]'],
])('a file that ADD downloads from a URL %s', async (_, text) => {
  const add = text.replaceAll('@U', world.registry.url).replace(/\$\[(.*)\]/, '$' + '{$1}')
  const { again } = await subject(`FROM ${world.registry.host}/base/busybox:1\n${add}\n`)
  expect(await again()).toContain('cannot be compared (ADD of a URL')
})
