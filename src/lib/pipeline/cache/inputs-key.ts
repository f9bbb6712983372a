import type { BuildSettings } from '../../core/settings.ts'
import { externalImages } from '../../dockerfile/external-images.ts'
import type { Context } from '../../source/source.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import { inOwnTurn } from '../../util/own-turn.ts'
import type { BuildParts } from '../parts.ts'
import { imageNamed, inRegistry, LOOKUP_LIMIT_MS, LOOKUPS } from '../reuse/base-images.ts'
import { dockerfileKey, settingsKey } from '../reuse/recipe.ts'

interface Parts {
  builder: Pick<BuildParts['builder'], 'localImage'>
  registry: BuildParts['registry']
}

/**
 * A key of everything that a context's files are built with: Dockerfile, settings, and the current digests of the
 * images that it refers to. Files keep their times only while this is unchanged. Null if it is not known for certain.
 */
export async function inputsKey(
  context: Context,
  dockerfile: Promise<string | null>,
  settings: BuildSettings,
  parts: Parts,
  signal: AbortSignal,
): Promise<string | null> {
  const text = await dockerfile
  const { images, unknown, remoteFiles } = await inOwnTurn(() => externalImages(text, settings))
  // A context from a URL or a branch may change at any time.
  const moves = Object.values(settings.contexts).some((from) => !from.startsWith('docker-image://'))
  if (unknown || remoteFiles || moves) return null
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LOOKUP_LIMIT_MS)])
  const digests = await mapConcurrently(images, LOOKUPS, (name) => currentDigest(name, parts, limited)).catch(
    () => {
      // The build needs the images, too, and will report the error.
      signal.throwIfAborted()
      return [null]
    },
  )
  if (digests.includes(null)) return null
  return JSON.stringify([dockerfileKey(context), settingsKey(settings), digests])
}

/** Null if neither the engine nor the registry has the image. @throws ConveyorError if the registry does not answer */
async function currentDigest(
  image: string,
  { builder, registry }: Parts,
  signal: AbortSignal,
): Promise<string | null> {
  const { name, digest } = imageNamed(image)
  return digest ?? (await builder.localImage(name)) ?? inRegistry(name, registry, signal)
}
