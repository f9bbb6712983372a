import type { BuildSettings } from '../core/settings.ts'
import type { SyncRecords } from '../core/sync-records.ts'
import type { LogWriter } from '../logs/log-store.ts'
import type { Context } from '../source/source.ts'

/** How the files' times are told; see FileTimes. */
export interface SyncOptions {
  records: SyncRecords
  /** What the files are built with: Dockerfile, settings, base images. Null: not known. */
  basis: Promise<string | null>
  /**
   * Paths that are copied before a command on which others are copied, where cache mounts keep what is made; when
   * one of them changes, all files are new.
   */
  copiedBeforeRun: Promise<readonly string[]>
}

/** What a builder needs to turn one context into one image. */
export interface BuildInput extends BuildSettings {
  context: Context
  /** Full image reference that the result gets, `registry/repo:sha`. */
  reference: string
  /** Whether the image is pushed under its reference. Otherwise it stays in the engine. */
  push: boolean
  /** A name for what stays the same from build to build of a repository: lets the engine sync only changes. */
  cacheKey: string
  /** Namespace of its cache mounts; null: that of builds which have none. See pipeline/cache/namespace.ts. */
  cacheNamespace: string | null
  /** Lets files that did not change keep their time, so that they need not be sent again; null: all are new. */
  sync: SyncOptions | null
  /** False: no step comes from any cache. */
  cache: boolean
  /** Images whose cache may be imported, best first. */
  cacheFrom: string[]
  labels: Record<string, string>
  /** Values for `RUN --mount=type=secret,id=...`. */
  secrets: Record<string, Uint8Array>
  /** When the image says that it was made, in seconds since 1970: of the commit, so the same everywhere. */
  epoch: number
}

export interface BuilderIo {
  log: LogWriter
  signal: AbortSignal
}

export interface BuiltImage {
  /** Id of the image: the digest of its config, `sha256:...`. */
  imageId: string
  /** Digest of the manifest that the registry has now, `sha256:...`; null when nothing was pushed. */
  digest: string | null
  /** How long export and push took, of the build's whole time, in milliseconds. */
  pushMs: number
  steps: { total: number; cached: number }
  /** What of the context had to be sent to the engine. */
  transfer: { files: number; bytes: number }
  from: BuiltFrom
}

/** What a build took from outside its context. */
export interface BuiltFrom {
  /** Images, as BuildKit names them, `docker.io/library/node:24`, with the digest where it told one. */
  images: { name: string; digest: string | null }[]
  /** Whether something came from a URL or another git repository (`ADD https://...`). */
  remoteFiles: boolean
}

/** Turns a context into an image, and pushes it. */
export interface Builder {
  /** How builds are done, and why so, in one line. @throws ConveyorError `unavailable` when the engine is */
  describe(): Promise<string>
  /** The tag that `saveCache` writes under; null where the images themselves hold what can be imported. */
  cacheTag(): Promise<string | null>
  /** Whether the builder has built this repository already, so that importing a cache is no use. */
  isWarm(imageName: string): Promise<boolean>
  /**
   * Begins to fetch the layers of an image that a build will import: they are there, or on their way, when
   * the build asks for them. Resolves when they are there. The image itself is not kept.
   * @param digest `sha256:...`
   */
  prefetch(imageName: string, digest: string, signal: AbortSignal): Promise<void>
  /**
   * The same for the layers of a base image, `debian:12`, that builds of `imageName` begin on.
   */
  prefetchBase(imageName: string, base: string, signal: AbortSignal): Promise<void>
  /**
   * Builds, and pushes if that is wanted. Aborting the signal ends the engine's work too. Failures of a push
   * that may pass are retried.
   * @throws ConveyorError `build_failed` with the failing step, `unauthorized` when the registry refuses the
   * login, or `unavailable` when the engine or the registry is.
   */
  build(input: BuildInput, io: BuilderIo): Promise<BuiltImage>
  /**
   * Writes the layers of every step of a build that has been published to the registry, under `cacheTag`, so
   * that a worker that has none of them can begin there. In the background, when nothing is being built; a
   * newer one of the same image takes its place. What goes wrong is said in the process's log only.
   * @param input made when it is needed; its context is closed then. Null: there is nothing to write after all
   */
  saveCache(imageName: string, input: () => Promise<BuildInput | null>): void
  /**
   * Removes the engine's images of older builds under this name, so that they do not fill the disk. Their
   * layers stay in the build cache, within the engine's own limits.
   */
  tidy(imageName: string): Promise<void>
  /** Id of an image that the engine itself has under this name, which it then prefers to the registry's; or null. */
  localImage(name: string): Promise<string | null>
  /** Ends what runs in the background; what has begun may take some seconds to end well. */
  close(): Promise<void>
}
