import type { Builder } from '../builder/builder.ts'
import type { Registry } from '../registry/registry.ts'
import type { Context } from '../source/source.ts'
import { inRegistry } from './base-images.ts'
import { basesOf } from './early-bases.ts'
import { type BuildSettings, dockerfileKey, dockerfileText, settingsKey } from './recipe.ts'

/** As files wait for it before they go to BuildKit, it has a time limit of its own, in milliseconds. */
const LIMIT_MS = 3000

/**
 * What a context's files are built with: Dockerfile, settings, and what the images are at this moment that it takes
 * something from. Null when that is not known for certain.
 */
export async function syncBasis(
  context: Context,
  settings: BuildSettings,
  parts: { builder: Pick<Builder, 'localImage'>; registry: Registry },
  signal: AbortSignal,
): Promise<string | null> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
  try {
    const images = basesOf(await dockerfileText(context, signal), settings)
    const digests = await Promise.all(
      images.map(
        async (name) =>
          (await parts.builder.localImage(name)) ?? (await inRegistry(name, parts.registry, limited)),
      ),
    )
    if (digests.includes(null)) return null
    return JSON.stringify([dockerfileKey(context), settingsKey(settings), digests])
  } catch (error) {
    signal.throwIfAborted()
    if (limited.aborted) return null
    throw error
  }
}
