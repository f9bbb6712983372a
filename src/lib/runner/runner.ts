import type { BuilderIo } from '../builder/builder.ts'

/** What a builder image is told, as the environment REPOSITORY, SHA, BRANCH, DRY, CACHE and BUILDKIT_CACHE_MOUNT_NS. */
export interface ContainerBuild {
  /** Names the container; the same for every attempt at a build. */
  buildId: string
  /** `owner/name`; the image gets it in lower case. */
  repository: string
  /** 40 hexadecimal digits. */
  sha: string
  /** Null for a commit without one (BRANCH is empty then). */
  branch: string | null
  /** Push nothing. */
  dry: boolean
  cache: boolean
  /** Namespace of its cache mounts: what `docker build --build-arg BUILDKIT_CACHE_MOUNT_NS` takes as it is. */
  cacheNamespace: string
}

/**
 * Runs whole builds in containers of a builder image (`--builder.image`), which clones, builds, tags and
 * pushes by itself; teams bring their own. The image's output is the build's log.
 */
export interface BuildContainer {
  /**
   * Runs one build to its end. The container and its volumes are removed afterwards, whatever happened; what an
   * earlier attempt left behind is removed first. Aborting the signal stops the container: SIGTERM, after 10 s SIGKILL.
   * @throws ConveyorError `build_failed` when it exits with another status than 0; `unavailable` (retryable) when
   * the engine, or the node that ran it, is gone; `invalid` with what to do when the image or the data container
   * is missing.
   */
  run(build: ContainerBuild, io: BuilderIo): Promise<void>
}
