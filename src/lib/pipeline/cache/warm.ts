import { type Artifact, shortName } from '../../core/build.ts'
import { DISCARD } from '../../core/build-log/sink.ts'
import { toConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { splitReference } from '../../registry/image-name.ts'
import { addNewest } from '../../util/collections/keep-newest.ts'
import { buildInput } from '../build-input.ts'
import type { BuildParts } from '../parts.ts'

/** How many repositories a worker reports as warm; the engine's cache hardly holds more. */
const WARM_AT_MOST = 100

/** The repositories whose mirror and layers a worker has. */
export class WarmRepositories {
  /** Least recently used first. */
  readonly #names = new Set<string>()

  add(repository: string): void {
    addNewest(this.#names, repositoryKey(repository), WARM_AT_MOST)
  }

  /** In lower case. */
  list(): string[] {
    return [...this.#names]
  }
}

interface WarmOptions {
  /** Repositories are added to it once they are warm. */
  warm: WarmRepositories
  /** How many repositories to warm, most recently built first; 0 for none. */
  repositories: number
  /** Receives the outcome, one line at a time. */
  log: (line: string) => void
}

/**
 * Warms a new worker for the repositories that were built last: fetches their newest commit into the mirror and, if the
 * engine has nothing of the repository yet, their layers into its cache. The next push is then built as fast as on a
 * worker that built the repository before. One repository at a time, concurrently with jobs; failures are logged and harmless.
 */
export async function warmUp(parts: BuildParts, options: WarmOptions, signal: AbortSignal): Promise<void> {
  if (parts.container) return // builder images manage their own caches
  for (const artifact of await parts.store.recentArtifacts(options.repositories)) {
    if (signal.aborted) return
    const name = shortName(artifact)
    try {
      const from = performance.now()
      const did = await warmRepository(artifact, parts, signal)
      options.warm.add(artifact.repository)
      if (did) options.log(`warm: ${name} is ready (${((performance.now() - from) / 1000).toFixed(1)} s)`)
    } catch (error) {
      if (signal.aborted) return
      options.log(`warm: ${name} could not be warmed: ${toConveyorError(error, 'it failed').advice}`)
    }
  }
}

/** @returns false if there was nothing to do */
async function warmRepository(artifact: Artifact, parts: BuildParts, signal: AbortSignal): Promise<boolean> {
  const { repository, sha } = artifact
  const imageName = parts.names.image(repository)
  const isWarm = await parts.builder.isWarm(imageName)
  const digest = isWarm ? null : splitReference(artifact.image).digestIn(imageName)
  // The import below brings only the digests of layers, until a step is built on them. If the image is gone from the
  // registry, there is still the exported cache.
  const layers = digest && parts.builder.prefetch(imageName, digest, signal).catch(() => {})
  const commit = await parts.source.fetch(repository, sha, { signal })
  await layers
  if (isWarm) return false
  const context = await parts.source.context(commit, { signal })
  try {
    const buildable = { build: { repository, sha, refs: [], cache: true }, imageName, commit, context }
    // Importing the cache of the image, or the exported one, into a build fetches its layers and records what they were
    // built from.
    const cache = `${imageName}:${(await parts.builder.cacheTag()) ?? sha}`
    const input = await buildInput(buildable, parts, { cacheFrom: [cache], push: false, signal })
    await parts.builder.build(input, { log: DISCARD, signal })
    return true
  } finally {
    await context.close()
  }
}
