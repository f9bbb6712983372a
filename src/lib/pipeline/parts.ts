import type { Builder } from '../builder/builder.ts'
import type { Build, Recipe } from '../core/build.ts'
import type { BuildSettings, LatestPolicy } from '../core/settings.ts'
import type { LogWriter } from '../logs/log-store.ts'
import type { ImageNames, Registry } from '../registry/registry.ts'
import type { Runner } from '../runner/runner.ts'
import type { Commit, Context, History, Source } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import type { Stopwatch } from '../util/stopwatch.ts'
import type { AttemptObserver } from './observer.ts'
import type { TimelineRecorder } from './timeline/recorder.ts'

/** The adapters and settings that a build runs with. */
export interface BuildParts {
  store: BuildStore
  source: Source
  builder: Builder
  /** Runs the builds in place of `source` and `builder`, if configured. */
  container?: Runner
  /** Decides which of two pushes is newer when they do not say so themselves. */
  history: History
  registry: Registry
  names: ImageNames
  /** What is configured for the builds of a repository. */
  settings(repository: string): BuildSettings
  /**
   * Reads a file of a commit from the forge, which is faster than fetching the commit; null if the forge does not
   * have it or cannot be reached. Absent if there is no such forge.
   */
  readFromForge?(repository: string, sha: string, path: string, signal: AbortSignal): Promise<string | null>
  /** Web address of a repository, for the image's labels. */
  sourceUrl(repository: string): string
  /** Values for `RUN --mount=type=secret` of a repository; the log never shows them. */
  secrets(repository: string): Promise<Record<string, Uint8Array>>
  proxies(): Promise<StepProxies>
  /** Namespace of a repository's cache mounts; see cache/namespace.ts. */
  cacheNamespace(repository: string): string
  latest: LatestPolicy
  /** Build, but push nothing. */
  dry: boolean
}

/** Proxies for RUN steps. They are not part of the recipe. */
export interface StepProxies {
  /** By variable, `HTTP_PROXY` and so on. */
  variables: Record<string, string>
  /** The passwords in them; the log never shows them. */
  secrets: string[]
}

/** Masks the secrets of one attempt in its log, and in its error. */
export interface SecretRedactor {
  /** Masks a secret from now on, also in logs that are being written. */
  add(secret: string | Uint8Array): void
  /** A writer that passes on what it gets, with the secrets masked. */
  wrap(writer: LogWriter): LogWriter
  /** A short text, such as an error message, with the secrets masked. */
  redact(text: string): string
}

/** The log of a build, and the signal that aborts it. */
export interface BuildIo {
  log: LogWriter
  signal: AbortSignal
  /** Called once it is clear that no earlier image is reused right away, so that the build will take a while. */
  onBegin?: () => void
  /** Called once it is known that the commit has a Dockerfile. */
  onDockerfile?: () => void
  /** Sees how the attempt goes. */
  observer?: AttemptObserver
  /** Records where the time goes. */
  timeline?: TimelineRecorder
}

/** What the steps of a build share, with the stopwatch of the summary at the end of the log. */
export interface StepIo extends BuildIo {
  watch: Stopwatch
}

/** A build whose commit has been fetched and whose context has been read. */
export interface PreparedBuild {
  build: Build
  imageName: string
  commit: Commit
  context: Context
  recipe: Recipe
}
