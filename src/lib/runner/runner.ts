import type { LogSink } from '../core/build-log/sink.ts'

export interface RunIo {
  /** Gets the image's output. */
  log: LogSink
  signal: AbortSignal
}

/** One build as a builder image sees it, through REPOSITORY, SHA, BRANCH, DRY, CACHE and BUILDKIT_CACHE_MOUNT_NS. */
export interface RunInput {
  /** Part of the container's name; the same for every attempt at a build. */
  buildId: string
  attempt: number
  /** `owner/name`; passed on in lower case. */
  repository: string
  /** 40 hex digits. */
  sha: string
  /** Null for a commit without a branch (BRANCH is empty). */
  branch: string | null
  /** Push nothing. */
  dry: boolean
  cache: boolean
  /** Namespace of its cache mounts, for `docker build --build-arg BUILDKIT_CACHE_MOUNT_NS`. */
  cacheNamespace: string
}

/**
 * Runs whole builds in containers of a builder image (`--builder.image`), which clones, builds, tags and pushes on
 * its own; teams can bring their own image. Its output is the build's log.
 */
export interface Runner {
  /**
   * Runs one build until its container exits. The container and its volumes are always removed afterwards;
   * leftovers of an earlier attempt are removed first. Aborting the signal stops the container: SIGTERM, then
   * SIGKILL after 10 s.
   * @throws ConveyorError `build_failed` if it exits with a status other than 0; `unavailable` (retryable) if the
   * engine, or the node that ran it, is lost; `invalid` with a hint if the image or the data container is missing
   */
  run(build: RunInput, io: RunIo): Promise<void>

  /**
   * What the engine or the Swarm has of builds, or of one build, whichever process has started it.
   * @throws ConveyorError
   */
  containers(buildId?: string): Promise<BuildContainer[]>
}

/** The container of an attempt at a build, or the service that runs it. */
export interface BuildContainer {
  buildId: string
  /** Null if an earlier version has started it. */
  attempt: number | null
  /** Stops and removes it, with its volumes; nothing if it is gone. @throws ConveyorError */
  remove(): Promise<void>
}
