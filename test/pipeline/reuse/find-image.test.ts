import { setImmediate as turn } from 'node:timers'
import { expect, test } from 'vitest'
import { type BuildSettings, NO_SETTINGS } from '../../../src/lib/core/settings.ts'
import type { BuildIo, BuildParts, PreparedBuild } from '../../../src/lib/pipeline/parts.ts'
import { findByRecipe, findByTree } from '../../../src/lib/pipeline/reuse/find-image.ts'
import { settingsKey } from '../../../src/lib/pipeline/reuse/recipe.ts'
import { build } from '../../support/build.ts'

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

test('an image that a builder of another platform made is not one of the same tree', async () => {
  const imageName = 'registry.test/acme/app'
  const images = [{ platform: 'linux/amd64' }, { platform: 'linux/arm64' }].map(({ platform }, i) => ({
    ...{ sha: 'a'.repeat(40), image: `${imageName}@sha256:${`${i}`.repeat(64)}`, bases: [] },
    recipe: { context: 'c', dockerfile: 'd', settings: settingsKey(NO_SETTINGS, platform) },
  }))
  const found = async (platform: string, settings: Partial<BuildSettings> = {}) => {
    const parts = {
      store: { artifactsByTree: async () => images },
      builder: { platform: async () => platform },
      registry: { head: async (_: string, reference: string) => reference },
    } as unknown as BuildParts
    const io = { log: { write: async () => {} }, signal: new AbortController().signal } as unknown as BuildIo
    const subject = build({ tree: 'b'.repeat(40) })
    return (await findByTree(subject, imageName, { ...NO_SETTINGS, ...settings }, parts, io))?.digest ?? null
  }
  expect(await found('linux/amd64')).toBe(`sha256:${'0'.repeat(64)}`)
  expect(await found('linux/arm64')).toBe(`sha256:${'1'.repeat(64)}`)
  expect(await found('linux/arm/v7')).toBeNull()
  expect(await found('linux/arm64', { platforms: ['linux/amd64'] })).toBeNull()
})

test('a great many changes are compared without blocking the event loop: the build can be cancelled', async () => {
  const { find, end } = changed(400_000)
  const reason = new Error('cancelled')
  const found = find()
  turn(() => end.abort(reason))
  await expect(found).rejects.toBe(reason)
})
