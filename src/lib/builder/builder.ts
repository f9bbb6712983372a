import type { LogWriter } from '../logs/log-store.ts'
import type { Context } from '../source/source.ts'

/** What a builder needs to turn one context into one image. */
export interface BuildInput {
  context: Context
  /** Full image reference that the result gets in the engine, `registry/repo:sha`. */
  reference: string
  /** A name for what stays the same from build to build of a repository: lets the engine sync only changes. */
  cacheKey: string
  /** False: no step comes from any cache. */
  cache: boolean
  /** Images whose inline cache may be imported, best first. */
  cacheFrom: string[]
  labels: Record<string, string>
  buildArgs: Record<string, string>
  /** Values for `RUN --mount=type=secret,id=...`. */
  secrets: Record<string, Uint8Array>
  /** Network of RUN steps: the engine's default when null. */
  network: string | null
}

export interface BuilderIo {
  log: LogWriter
  signal: AbortSignal
}

export interface BuiltImage {
  /** Id of the image in the engine, `sha256:...`. */
  imageId: string
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
  /** Whether the builder has an image of this repository already, so that importing a cache is no use. */
  isWarm(imageName: string): Promise<boolean>
  /**
   * Begins to fetch the layers of an image that a build will import: they are there, or on their way, when
   * the build asks for them. Resolves when they are there. The image itself is not kept.
   * @param digest `sha256:...`
   */
  prefetch(imageName: string, digest: string, signal: AbortSignal): Promise<void>
  /**
   * Builds. Aborting the signal ends the engine's work too.
   * @throws ConveyorError `build_failed` with the failing step, or `unavailable` when the engine is.
   */
  build(input: BuildInput, io: BuilderIo): Promise<BuiltImage>
  /**
   * Removes the engine's images of older builds under this name, so that they do not fill the disk. Their
   * layers stay in the build cache, within the engine's own limits.
   */
  tidy(imageName: string): Promise<void>
  /** Id of an image that the engine itself has under this name, which it then prefers to the registry's; or null. */
  localImage(name: string): Promise<string | null>
  /**
   * Pushes what `build` made under its reference; resolves to the manifest's digest, `sha256:...`.
   * Transient failures are retried.
   * @throws ConveyorError `unauthorized`, or `unavailable` when the registry is.
   */
  push(reference: string, io: BuilderIo): Promise<string>
}
