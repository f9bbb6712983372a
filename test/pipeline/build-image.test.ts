import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Builder } from '../../src/lib/builder/builder.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import { buildImage } from '../../src/lib/pipeline/build-image.ts'
import type { StepIo } from '../../src/lib/pipeline/parts.ts'
import { recipeOf, settingsKey } from '../../src/lib/pipeline/reuse/recipe.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { Stopwatch } from '../../src/lib/util/stopwatch.ts'
import { build } from '../support/build.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { memoryLog } from '../support/memory-log.ts'
import { containerParts } from './container-parts.ts'

const IMAGE = 'registry.test/acme/app'

/** What is built of a Dockerfile by a builder that only does what is given here. */
async function subject(builder: Partial<Builder>, store: BuildStore, io: Partial<StepIo> = {}) {
  const common = containerParts({
    store,
    names: { image: () => IMAGE, tag: tagForRef },
    registry: {
      head: async () => null,
      manifest: () => Promise.reject(new Error('it is not asked')),
      putManifest: async () => {},
      deleteTag: async () => false,
    },
    container: { run: async () => {}, containers: async () => [] },
  })
  const parts = { ...common, builder: builder as Builder }
  const context = memoryContext({ Dockerfile: 'FROM scratch\n' })
  const recipe = await recipeOf(context, parts.settings('acme/app'), null)
  const ours = build()
  const commit = { ...ours, tree: 'b'.repeat(40), committedAt: '2026-01-01T00:00:00Z' }
  const prepared = { build: ours, imageName: IMAGE, commit, context, recipe } as never
  return buildImage(prepared, Promise.resolve([]), parts, {
    ...{ log: memoryLog(), signal: new AbortController().signal, watch: new Stopwatch() },
    ...io,
  })
}

test('images of older builds that cannot be removed harm nothing once the build has failed', async () => {
  await using resources = new AsyncDisposableStack()
  const store = resources.adopt(await sqliteBuildStore({ file: ':memory:' }), (it) => it.close())
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
  await expect(subject(builder, store, { log: closed })).rejects.toThrow('RUN false failed')
  // A rejection that nobody handles would fail the run.
  removing.reject(new Error('HTTP code 500'))
  await turn()
})

test('an image is recorded with the platform of the builder that made it, which may not be the expected one', async () => {
  await using resources = new AsyncDisposableStack()
  const store = resources.adopt(await sqliteBuildStore({ file: ':memory:' }), (it) => it.close())
  const digest = `sha256:${'c'.repeat(64)}`
  const builder: Partial<Builder> = {
    build: async () => ({
      ...{ imageId: digest, digest, pushMs: 0, platform: 'linux/arm64' },
      ...{ steps: { total: 0, cached: 0 }, transfer: { files: 0, bytes: 0 } },
      from: { images: [], remoteFiles: false },
    }),
    tidy: async () => {},
  }
  const { image } = await subject(builder, store)
  expect(image).toMatchObject({ recipe: { settings: settingsKey(NO_SETTINGS, 'linux/arm64') } })
})
