import { expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { runBuild } from '../../src/lib/pipeline/run-build.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { push, succeeded } from '../store/contract/subject.ts'
import { memoryLog } from '../support/memory-log.ts'
import { containerParts } from './container-parts.ts'

test('a build whose earlier image turns out to be incomplete can be cancelled while it builds', async () => {
  await using resources = new AsyncDisposableStack()
  const store = resources.adopt(await sqliteBuildStore({ file: ':memory:' }), (it) => it.close())
  const begin = async (branch: string) => {
    const { build } = await store.accept(push(branch))
    const begun = await store.claim(build.id)
    if (!begun) throw new Error('it cannot be claimed')
    return begun
  }
  const { id, attempt, refs } = await begin('main')
  await store.finish(id, attempt, refs.length, succeeded())

  const build = await begin('other')
  let asked: unknown
  const parts = containerParts({
    store,
    names: { image: () => 'registry.test/acme/app', tag: tagForRef },
    registry: {
      head: async (_name, reference) => reference,
      manifest: async () => {
        throw new ConveyorError('not_found', 'a layer is gone')
      },
      putManifest: async () => {},
      deleteTag: async () => false,
    },
    container: {
      run: async () => {
        asked = await store.requestCancel(build.id, 'ada')
      },
      containers: async () => [],
    },
  })
  const log = memoryLog()
  const running = runBuild(build, parts, { log, signal: new AbortController().signal })
  await expect(running).rejects.toMatchObject({ kind: 'cancelled' })
  expect(log.text).toContain('building after all: a layer is gone\n')
  expect(asked).toMatchObject({ state: 'building', cancel: { by: 'ada' } })
})
