import { setImmediate as turn } from 'node:timers'
import { expect, test } from 'vitest'
import type { BuildIo, BuildParts, PreparedBuild } from '../../../src/lib/pipeline/parts.ts'
import { findByRecipe } from '../../../src/lib/pipeline/reuse/find-image.ts'

/** A build of `files`, all of which changed since the last one. */
function changed(files: number) {
  const paths = Array.from({ length: files }, (_, i) => ({ path: `dir/file${i}` }))
  const prepared = {
    build: { repository: 'acme/app', refs: [] },
    context: { entries: paths, dockerfileEntries: [] },
    recipe: { settings: 's' },
  } as unknown as PreparedBuild
  const parts = {
    store: {
      artifactsByRecipe: async () => [],
      lastArtifact: async () => ({ sha: 'abcdef0123', recipe: { settings: 's' } }),
    },
    source: { changes: async () => paths.map(({ path }) => ({ kind: 'changed', path })) },
  } as unknown as BuildParts
  const lines: string[] = []
  const log = { write: async (text: string) => void lines.push(text) }
  const end = new AbortController()
  const io = { log, signal: end.signal } as unknown as BuildIo
  return { find: () => findByRecipe(prepared, parts, io), lines, end }
}

test('the log names some of the files that changed', async () => {
  const few = changed(2)
  await few.find()
  const many = changed(1000)
  await many.find()
  expect([...few.lines, ...many.lines].join('')).toBe(
    'building: dir/file0, dir/file1 changed since abcdef0\n' +
      'building: dir/file0, dir/file1, dir/file2 and 997 more changed since abcdef0\n',
  )
})

test('a great many changes are compared without blocking the event loop: the build can be cancelled', async () => {
  const { find, end } = changed(400_000)
  const reason = new Error('cancelled')
  const found = find()
  turn(() => end.abort(reason))
  await expect(found).rejects.toBe(reason)
})
