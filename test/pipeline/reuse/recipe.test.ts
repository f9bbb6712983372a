import { expect, test } from 'vitest'
import { type BuildSettings, NO_SETTINGS } from '../../../src/lib/core/settings.ts'
import { settingsKey } from '../../../src/lib/pipeline/reuse/recipe.ts'

test('every setting is part of the recipe, and defaults change nothing', () => {
  const variants: Partial<BuildSettings>[] = [
    {},
    { buildArgs: { A: '1' } },
    { network: 'host' },
    { target: 'release' },
    { platforms: ['linux/arm64'] },
    { platforms: ['linux/amd64', 'linux/arm64'] },
    { hosts: { db: '10.1.2.3' } },
    { ulimits: { nofile: '1' } },
    { ulimits: { db: '10.1.2.3' } },
    { contexts: { db: '10.1.2.3' } },
    { contexts: { base: 'docker-image://a' } },
    { contexts: { base: 'docker-image://b' } },
    { attest: ['sbom'] },
    { reproducible: true },
    { git: true },
    { reproducible: true, git: true },
  ]
  const keys = variants.map((one) => settingsKey({ ...NO_SETTINGS, ...one }))
  expect(new Set(keys).size).toBe(variants.length)
  const args = (buildArgs: Record<string, string>) => settingsKey({ ...NO_SETTINGS, buildArgs })
  expect(args({ A: '1', B: '2' })).toBe(args({ B: '2', A: '1' }))
  const own = (platform: string | null, platforms: string[] = []) =>
    settingsKey({ ...NO_SETTINGS, platforms }, platform)
  expect(new Set([...keys, own('linux/arm64'), own('linux/arm/v7')]).size).toBe(variants.length + 2)
  expect(own('linux/arm64', ['linux/amd64'])).toBe(own('linux/amd64', ['linux/amd64']))
  // So that the images of older versions, which do not say it, are still found.
  expect(own('linux/amd64')).toBe(keys[0])
  expect(own(null)).toBe(keys[0])
  // The key that older versions, with fewer settings, computed.
  expect(keys[0]).toBe('dbac883827de2f6ade71c1885a65ee7d1daf7aa5f7ffb54742e0c695b321c4dd')
})
