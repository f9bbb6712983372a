import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Builder } from '../../src/lib/builder/builder.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import type { LogWriter } from '../../src/lib/logs/log-store.ts'
import { buildImage } from '../../src/lib/pipeline/build-image.ts'
import { recipeOf, settingsKey } from '../../src/lib/pipeline/reuse/recipe.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { Stopwatch } from '../../src/lib/util/stopwatch.ts'
import { build } from '../support/build.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { memoryLog } from '../support/memory-log.ts'
import { containerParts } from './container-parts.ts'

interface Surroundings {
  dockerfile: string
  builder: Partial<Builder>
  log?: LogWriter
  /** The digest of each image in its registry. */
  head?: () => Promise<string | null>
}

/** Builds a commit with nothing but a Dockerfile. */
async function buildOf(
  { dockerfile, builder, log = memoryLog(), head = async () => null }: Surroundings,
  rest: Partial<Build> = {},
) {
  await using resources = new AsyncDisposableStack()
  const store = resources.adopt(await sqliteBuildStore({ file: ':memory:' }), (it) => it.close())
  const common = containerParts({
    store,
    names: { image: () => 'registry.test/acme/app', tag: tagForRef },
    registry: {
      head,
      manifest: () => Promise.reject(new Error('it is not asked')),
      putManifest: async () => {},
      deleteTag: async () => false,
    },
    container: { run: async () => {}, containers: async () => [] },
  })
  const parts = { ...common, builder: builder as Builder }
  const context = memoryContext({ Dockerfile: dockerfile })
  const recipe = await recipeOf(context, parts.settings('acme/app'), null)
  const subject = build(rest)
  const commit = { ...subject, tree: 'b'.repeat(40), committedAt: '2026-01-01T00:00:00Z' }
  return await buildImage(
    { build: subject, imageName: 'registry.test/acme/app', commit, context, recipe } as never,
    Promise.resolve([]),
    parts,
    { log, signal: new AbortController().signal, watch: new Stopwatch() },
  )
}

test('images of older builds that cannot be removed harm nothing once the build has failed', async () => {
  const removing = Promise.withResolvers<never>()
  const builder: Partial<Builder> = {
    build: async () => {
      throw new ConveyorError('build_failed', 'RUN false failed')
    },
    tidy: () => removing.promise,
  }
  const closed = {
    ...memoryLog(),
    write: () => Promise.reject(new ConveyorError('invalid', 'it is already closed')),
  }
  const building = buildOf({ dockerfile: 'FROM scratch\n', builder, log: closed })
  await expect(building).rejects.toThrow('RUN false failed')
  // A rejection that nobody handles would fail the run.
  removing.reject(new Error('HTTP code 500'))
  await turn()
})

test('an image whose tag moves while a build starts is recorded as the build used it', async () => {
  const digest = (digit: string) => `sha256:${digit.repeat(64)}`
  const [started, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let tool = digest('1')
  let used = ''
  const builder: Partial<Builder> = {
    async build({ sync }) {
      started.resolve()
      await sync?.basis // BuildKit gets no file before that
      used = tool
      const from = { images: [], remoteFiles: false }
      const rest = {
        pushMs: 0,
        platform: null,
        steps: { total: 1, cached: 0 },
        transfer: { files: 0, bytes: 0 },
      }
      return { imageId: '', digest: digest('3'), from, ...rest }
    },
    localImage: async () => null,
    tidy: async () => {},
  }
  const dockerfile = 'FROM scratch\nCOPY --from=tool:1 / /\n'
  const head = () => answer.promise.then(() => tool)
  const building = buildOf({ dockerfile, builder, head }, { cache: false })
  await started.promise
  for (let turns = 0; turns < 10; turns += 1) await turn()
  tool = digest('2')
  answer.resolve()
  const { image } = await building
  expect(image).toMatchObject({ bases: [{ name: 'docker.io/library/tool:1', digest: used }] })
})

test('an image is recorded with the platform of the builder that made it, which may not be the expected one', async () => {
  const digest = `sha256:${'c'.repeat(64)}`
  const builder: Partial<Builder> = {
    build: async () => ({
      ...{ imageId: digest, digest, pushMs: 0, platform: 'linux/arm64' },
      ...{ steps: { total: 0, cached: 0 }, transfer: { files: 0, bytes: 0 } },
      from: { images: [], remoteFiles: false },
    }),
    tidy: async () => {},
  }
  const { image } = await buildOf({ dockerfile: 'FROM scratch\n', builder })
  expect(image).toMatchObject({ recipe: { settings: settingsKey(NO_SETTINGS, 'linux/arm64') } })
})
