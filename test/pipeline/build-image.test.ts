import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Builder } from '../../src/lib/builder/builder.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { buildImage } from '../../src/lib/pipeline/build-image.ts'
import { recipeOf } from '../../src/lib/pipeline/reuse/recipe.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { Stopwatch } from '../../src/lib/util/stopwatch.ts'
import { build } from '../support/build.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { memoryLog } from '../support/memory-log.ts'
import { containerParts } from './container-parts.ts'

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
  const common = containerParts({
    store,
    names: { image: () => 'registry.test/acme/app', tag: tagForRef },
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
  const recipe = await recipeOf(context, parts.settings('acme/app'))
  const subject = build()
  const commit = { ...subject, tree: 'b'.repeat(40), committedAt: '2026-01-01T00:00:00Z' }
  const closed = {
    ...memoryLog(),
    write: () => Promise.reject(new ConveyorError('invalid', 'it is already closed')),
  }
  const building = buildImage(
    { build: subject, imageName: 'registry.test/acme/app', commit, context, recipe } as never,
    Promise.resolve([]),
    parts,
    { log: closed, signal: new AbortController().signal, watch: new Stopwatch() },
  )
  await expect(building).rejects.toThrow('RUN false failed')
  // A rejection that nobody handles would fail the run.
  removing.reject(new Error('HTTP code 500'))
  await turn()
})
