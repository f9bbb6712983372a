import type { Builder } from '../../builder/builder.ts'
import type { Build } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { MOST_IMAGES, readImages } from '../../dockerfile/external-images.ts'
import { fewAtATime } from '../reuse/base-images.ts'

export interface EarlyParts {
  builder: Builder
  /** Reads a file of a commit by a way that is shorter than git's, where there is one; null when there is not. */
  readEarly?(repository: string, sha: string, path: string, signal: AbortSignal): Promise<string | null>
  /** What is set for the builds of a repository. */
  settings(repository: string): BuildSettings
}

/**
 * Has the layers of a build's base images fetched while its commit is still on its way, where its Dockerfile
 * can be read without it.
 */
export async function fetchBasesEarly(
  build: Build,
  imageName: string,
  parts: EarlyParts,
  signal: AbortSignal,
): Promise<void> {
  const { repository, sha } = build
  const text = await parts.readEarly?.(repository, sha, 'Dockerfile', signal)
  if (!text) return
  const bases = basesOf(text, parts.settings(repository))
  await fewAtATime(bases, (name) => parts.builder.prefetchBase(imageName, name, signal))
}

/**
 * The images that the target of a Dockerfile, or its last stage, is made from, as it names them: by FROM,
 * COPY --from and --mount=from, through all the stages that it needs. What is not certain is left out, and what is
 * for a platform of its own.
 */
export function basesOf(
  dockerfile: string,
  settings: Pick<BuildSettings, 'buildArgs' | 'target' | 'contexts'>,
): string[] {
  const { uses } = readImages(dockerfile, settings)
  const certain = uses.flatMap(({ name, ...use }) => (name && use.certain && !use.platform ? [name] : []))
  return [...new Set(certain)].slice(0, MOST_IMAGES)
}
