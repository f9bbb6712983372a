import { expect, test } from 'vitest'
import { findPushedTag, type ManifestReader, registryPushError } from '../../src/lib/registry/push-errors.ts'
import { untilAborted } from '../../src/lib/util/abort.ts'
import { BARE_REFUSAL } from '../support/registry/answers.ts'

/** A registry that never answers. */
const silent: ManifestReader = {
  head: (_name, _reference, signal) => untilAborted(new Promise(() => {}), signal),
  manifest: (_name, _reference, signal) => untilAborted(new Promise(() => {}), signal),
}

test('a cancelled build does not wait for what the registry says about its failed push', async () => {
  const reason = new Error('cancelled')
  const lookup = { registry: silent, signal: AbortSignal.abort(reason) }
  const reference = 'registry.example/a:b'
  await expect(registryPushError('anything else', reference, null, lookup)).rejects.toBe(reason)
  await expect(findPushedTag(BARE_REFUSAL, reference, lookup, async () => true)).rejects.toBe(reason)
})
