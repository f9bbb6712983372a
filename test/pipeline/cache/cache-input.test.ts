import { expect, test } from 'vitest'
import { cacheInput } from '../../../src/lib/pipeline/build-input.ts'
import type { BuildParts, PreparedBuild } from '../../../src/lib/pipeline/parts.ts'
import type { Registry } from '../../../src/lib/registry/registry.ts'
import { untilAborted } from '../../../src/lib/util/abort.ts'

test('a process that ends does not wait for what the registry says about its cache', async () => {
  const registry: Pick<Registry, 'head'> = {
    head: (_name, _reference, signal) => untilAborted(new Promise(() => {}), signal),
  }
  const parts = { builder: { cacheTag: async () => 'cache' }, registry } as unknown as BuildParts
  const prepared = { build: { defaultBranch: 'main', refs: [] } } as unknown as PreparedBuild
  const reason = new Error('the process ends')
  await expect(cacheInput(prepared, parts, AbortSignal.abort(reason))).rejects.toBe(reason)
})
