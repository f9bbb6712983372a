import type { Build } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { MOST_IMAGES, readImages } from '../../dockerfile/external-images.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import { inOwnTurn } from '../../util/own-turn.ts'
import type { BuildParts } from '../parts.ts'
import { LOOKUPS } from '../reuse/base-images.ts'

export type PrefetchParts = Pick<BuildParts, 'builder' | 'settings' | 'readFromForge'>

/** Fetches the layers of a build's base images while its commit is being fetched, if the forge has its Dockerfile. */
export async function prefetchBases(
  build: Build,
  imageName: string,
  parts: PrefetchParts,
  signal: AbortSignal,
): Promise<void> {
  const { repository, sha } = build
  const text = await parts.readFromForge?.(repository, sha, 'Dockerfile', signal)
  if (!text) return
  const bases = await inOwnTurn(() => basesOf(text, parts.settings(repository)))
  await mapConcurrently(bases, LOOKUPS, (name) => parts.builder.prefetchBase(imageName, name, signal))
}

/**
 * The images that the target of a Dockerfile, or its last stage, is built from, as it names them: in FROM, COPY --from
 * and --mount=from, through all stages that it needs. Without those that are not certain or for another platform.
 */
export function basesOf(
  dockerfile: string,
  settings: Pick<BuildSettings, 'buildArgs' | 'target' | 'contexts'>,
): string[] {
  const { uses } = readImages(dockerfile, settings)
  const certain = uses.flatMap(({ name, ...use }) => (name && use.certain && !use.platform ? [name] : []))
  return [...new Set(certain)].slice(0, MOST_IMAGES)
}
