import type { Builder } from '../../builder/builder.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { externalImages } from '../../dockerfile/external-images.ts'
import { splitDigest } from '../../dockerfile/image-names.ts'
import type { Registry } from '../../registry/registry.ts'
import type { Context } from '../../source/source.ts'
import { fewAtATime, inRegistry } from '../reuse/base-images.ts'
import { dockerfileKey, settingsKey } from '../reuse/recipe.ts'

/** As files wait for it before they go to BuildKit, it has a time limit of its own, in milliseconds. */
const LIMIT_MS = 3000

/**
 * What a context's files are built with: Dockerfile, settings, and what the images are at this moment that it takes
 * something from. Null when that is not known for certain.
 */
export async function syncBasis(
  context: Context,
  dockerfile: Promise<string | null>,
  settings: BuildSettings,
  parts: { builder: Pick<Builder, 'localImage'>; registry: Registry },
  signal: AbortSignal,
): Promise<string | null> {
  const { images, unknown, remoteFiles } = externalImages(await dockerfile, settings)
  // An image of a URL or a branch may be another one at any time.
  const moves = Object.values(settings.contexts).some((from) => !from.startsWith('docker-image://'))
  if (unknown || remoteFiles || moves) return null
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
  const digests = await fewAtATime(images, (name) => digestNow(name, parts, limited)).catch(() => {
    // The build, which needs them too, will say what is wrong.
    signal.throwIfAborted()
    return [null]
  })
  if (digests.includes(null)) return null
  return JSON.stringify([dockerfileKey(context), settingsKey(settings), digests])
}

/** Null when nobody has the image. @throws ConveyorError when its registry does not say */
async function digestNow(
  image: string,
  { builder, registry }: Parameters<typeof syncBasis>[3],
  signal: AbortSignal,
): Promise<string | null> {
  const { name, digest } = splitDigest(image)
  return digest ?? (await builder.localImage(name)) ?? inRegistry(name, registry, signal)
}
