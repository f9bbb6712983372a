import type { LogSink } from '../core/build-log/sink.ts'
import type { BuildSettings } from '../core/settings.ts'
import type { SyncRecords } from '../core/sync-records.ts'
import type { Step } from '../core/timeline.ts'
import type { Context } from '../source/source.ts'

/** How the modification times of files are chosen; see FileTimes. */
export interface SyncOptions {
  records: SyncRecords
  /**
   * Identifies what the files are built with: Dockerfile, settings, base images. Null if unknown. No file is sent before
   * this is known, not even the Dockerfile.
   */
  basis: Promise<string | null>
  /**
   * Paths that are copied before a RUN that others are copied after, if cache mounts are used; when one of them
   * changes, all files get a new time.
   */
  copiedBeforeRun: Promise<readonly string[]>
}

/** The input of one build: a context and its settings. */
export interface BuildInput extends BuildSettings {
  context: Context
  /** Reference of the resulting image, `registry/repo:sha`. */
  reference: string
  /** Whether to push the image; otherwise it stays in the engine. */
  push: boolean
  /** Identifies the repository across builds, so that only changes of the context are transferred. */
  cacheKey: string
  /** Namespace of its cache mounts; null for the default one. See pipeline/cache/namespace.ts. */
  cacheNamespace: string | null
  /** Lets unchanged files keep their time, so that they are not sent again; null: all files get a new time. */
  sync: SyncOptions | null
  /** False: no step may come from a cache. */
  cache: boolean
  /** Images to import the cache from, best first. */
  cacheFrom: string[]
  /** Nothing else of the repository's cache may be imported. */
  isolated?: boolean
  labels: Record<string, string>
  /** Values for `RUN --mount=type=secret,id=...`. */
  secrets: Record<string, Uint8Array>
  /** Creation time of the image, in seconds since 1970: the commit's, so that it is the same everywhere. */
  epoch: number
}

export interface BuilderIo {
  log: LogSink
  signal: AbortSignal
  /** Called when BuildKit starts with the build, and again if it has to start over; the last one counts. */
  onSteps?: (steps: BuildSteps) => void
}

/** The steps of a build, while it runs and afterwards. Names and errors may contain secrets. */
export interface BuildSteps {
  /** Grows whenever something changes. */
  readonly version: number
  /** The steps that have started or were cached, by number. @param ended whether those still running were aborted */
  list(ended: boolean): Step[]
  /** The images that they use, with the digests that they resolved to, where reported. */
  images(): BuiltFrom['images']
}

export interface BuiltImage {
  /** The digest of the image's config, `sha256:...`. */
  imageId: string
  /** Digest of the pushed manifest, `sha256:...`; null if nothing was pushed. */
  digest: string | null
  /** How long export and push took, in milliseconds. */
  pushMs: number
  steps: { total: number; cached: number }
  /** How much of the context had to be sent to the engine. */
  transfer: { files: number; bytes: number }
  from: BuiltFrom
  /** The builder's own platform, which the image is for; null if others were requested, or it is not known. */
  platform: string | null
}

/** What a build used from outside its context. */
export interface BuiltFrom {
  /** Images, as BuildKit names them, `docker.io/library/node:24`, with their digests where reported. */
  images: { name: string; digest: string | null }[]
  /** Whether files came from a URL or another git repository (`ADD https://...`). */
  remoteFiles: boolean
}

/** Builds images from contexts, and pushes them. */
export interface Builder {
  /** How images are built, and why that way, in one line. @throws ConveyorError `unavailable` if the engine is */
  describe(): Promise<string>
  /**
   * The platform of this name's images if none is requested, `linux/arm64`; null if not known. The builder is asked once.
   * @throws ConveyorError `unavailable`
   */
  platform(imageName: string): Promise<string | null>
  /** The tag that `saveCache` writes to; null if the images themselves contain the cache. */
  cacheTag(): Promise<string | null>
  /** Whether the builder has the cache of this repository, so that importing one is pointless. */
  isWarm(imageName: string): Promise<boolean>
  /**
   * Pulls the layers of an image whose cache a build will import, so that they are there, or on their way, when the
   * build needs them. Resolves when they are there. The image itself is not kept.
   * @param digest `sha256:...`
   */
  prefetch(imageName: string, digest: string, signal: AbortSignal): Promise<void>
  /** The same for a base image, `debian:12`, of builds of `imageName`. */
  prefetchBase(imageName: string, base: string, signal: AbortSignal): Promise<void>
  /**
   * Builds, and pushes if requested. Aborting the signal also cancels the build in the engine. Transient push failures
   * are retried.
   * @throws ConveyorError `build_failed` with the failed step, `unauthorized` if the registry rejects the login, or
   * `unavailable` if the engine or the registry is
   */
  build(input: BuildInput, io: BuilderIo): Promise<BuiltImage>
  /**
   * Exports the layers of every step of a published build to the registry, under `cacheTag`, for workers with an empty
   * cache. Runs in the background while nothing is being built; a newer export of the same image replaces a waiting
   * one. Failures are reported in the process's log only.
   * @param input called when the export starts, with the signal that ends it; its context is closed afterwards. Null:
   * nothing to export after all
   */
  saveCache(imageName: string, input: (signal: AbortSignal) => Promise<BuildInput | null>): void
  /**
   * Removes the engine's images of older builds with this name, so that they do not fill the disk. Their layers stay in
   * the build cache, within the engine's own limits.
   */
  tidy(imageName: string): Promise<void>
  /** Id of the engine's local image with this name, which it prefers to the registry's; null if there is none. */
  localImage(name: string): Promise<string | null>
  /** Stops background work, which may take some seconds to finish cleanly. */
  close(): Promise<void>
}
