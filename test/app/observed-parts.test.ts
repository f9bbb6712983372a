import { expect, test } from 'vitest'
import { observedParts } from '../../src/lib/app/observed-parts.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { type BuildObserver, NO_OBSERVER } from '../../src/lib/pipeline/observer.ts'
import type { BuildParts } from '../../src/lib/pipeline/parts.ts'
import { registryPushError } from '../../src/lib/registry/push-errors.ts'

test('errors of the registry and of git are seen, whoever talks to them, and nothing else', async () => {
  const seen: string[] = []
  const observer: BuildObserver = { ...NO_OBSERVER, systemError: (...args) => seen.push(args.join(' ')) }
  const fails = (error: unknown) => async () => {
    throw error
  }
  const answer =
    'unexpected status from PUT request to https://registry.example/v2/a/manifests/b: 503 Service Unavailable'
  const { error: pushError } = await registryPushError(answer, 'registry.example/a:b', null, {})
  const builderErrors = [pushError, new ConveyorError('build_failed', 'RUN failed'), new Error('a defect')]
  const parts = observedParts(
    {
      registry: { head: fails(new ConveyorError('unauthorized', '401')) },
      source: { fetch: fails(new ConveyorError('not_found', 'no such repository')) },
      history: { head: fails(new DOMException('aborted', 'AbortError')) },
      builder: { build: async () => Promise.reject(builderErrors.shift()) },
    } as unknown as BuildParts,
    observer,
  )
  const anything = null as never
  await expect(parts.registry.head('a', 'b')).rejects.toThrow('401')
  await expect(parts.source.fetch('a/b', 'c')).rejects.toThrow('no such repository')
  await expect(parts.history.head('a/b', null)).rejects.toThrow('aborted')
  for (let i = 0; i < 3; i++) await expect(parts.builder.build(anything, anything)).rejects.toThrow()
  expect(seen).toEqual(['registry unauthorized', 'git not_found', 'registry unavailable'])
})
