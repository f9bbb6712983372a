import { type Artifact, shortName } from '../../core/build.ts'
import { toConveyorError } from '../../core/errors.ts'
import { NO_LOG } from '../../logs/no-log.ts'
import { digestUnder } from '../reuse/find-image.ts'
import { type BuildParts, buildInput } from '../run-build.ts'

/** How many repositories a worker says that it is warm for; more are hardly all in its engine's cache. */
const WARM_AT_MOST = 100

/** The repositories that a worker has the mirror and the layers of. */
export class WarmRepositories {
  /** Those used last at the end. */
  readonly #names = new Set<string>()

  add(repository: string): void {
    const name = repository.toLowerCase()
    this.#names.delete(name)
    this.#names.add(name)
    const [oldest] = this.#names
    if (this.#names.size > WARM_AT_MOST && oldest !== undefined) this.#names.delete(oldest)
  }

  /** In lower case. */
  list(): string[] {
    return [...this.#names]
  }
}

export interface WarmOptions {
  /** Gets what is ready. */
  warm: WarmRepositories
  /** How many repositories, those built last first; 0 for none. */
  repositories: number
  /** Told how it went, one line at a time. */
  log: (line: string) => void
}

/**
 * Makes a new worker ready for the repositories that were built last: their newest commit comes into the
 * mirror and, where the engine has nothing of the repository yet, their layers into its cache. So the
 * next push there is built as fast as on a worker that has built it all along. One after the other, beside
 * the jobs; what cannot be made ready is said, and harms nothing.
 */
export async function warmUp(parts: BuildParts, options: WarmOptions, signal: AbortSignal): Promise<void> {
  if (parts.container) return // a builder image keeps its caches where it likes
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
      options.log(`warm: ${name} could not be made ready: ${toConveyorError(error, 'it failed').advice}`)
    }
  }
}

/** @returns false when there was nothing to do */
async function warmRepository(artifact: Artifact, parts: BuildParts, signal: AbortSignal): Promise<boolean> {
  const { repository, sha } = artifact
  const imageName = parts.names.image(repository)
  const isWarm = await parts.builder.isWarm(imageName)
  const digest = isWarm ? null : digestUnder(imageName, artifact)
  // What is imported below are only the names of layers, until a step is built on them. An image that is gone from
  // the registry leaves what is kept beside it.
  const layers = digest && parts.builder.prefetch(imageName, digest, signal).catch(() => {})
  const commit = await parts.source.fetch(repository, sha, { signal })
  await layers
  if (isWarm) return false
  const context = await parts.source.context(commit, { signal })
  try {
    const order = { build: { repository, sha, refs: [], cache: true }, imageName, commit, context }
    // Building with the image, or what is kept beside it, as a cache fetches its layers, and records what
    // they were made from.
    const cache = `${imageName}:${(await parts.builder.cacheTag()) ?? sha}`
    const input = await buildInput(order, parts, [cache], false, signal)
    await parts.builder.build(input, { log: NO_LOG, signal })
    return true
  } finally {
    await context.close()
  }
}
