import { type ConveyorError, toConveyorError } from '../errors.ts'
import type { CommitStatus, Forge } from '../forge/forge.ts'
import type { BuildStore } from '../store/build-store.ts'
import { type Build, isEnded, shortName } from './build.ts'

/**
 * Tells the forge how builds go, beside the builds: a status that can not be set never delays or fails
 * one. What could not be told stays in the store as unreported, and is told by `sweep`.
 */
export class StatusReporter {
  readonly #forge: Pick<Forge, 'setStatus'>
  readonly #store: BuildStore
  readonly #logUrl: (build: Build) => string
  readonly #log: (line: string) => void
  /** The report under way for each build, and how to give it up. */
  readonly #active = new Map<string, { done: Promise<boolean>; abort: AbortController }>()

  constructor(options: {
    forge: Pick<Forge, 'setStatus'>
    store: BuildStore
    /** Where the status links to. */
    logUrl: (build: Build) => string
    /** Told what could not be reported, one line at a time. */
    log: (line: string) => void
  }) {
    this.#forge = options.forge
    this.#store = options.store
    this.#logUrl = options.logUrl
    this.#log = options.log
  }

  /** Reports where a build stands now. The end of a build replaces a report of its beginning. */
  report(build: Build): void {
    void this.#begin(build)
  }

  /** Resolves to whether the forge has answered for good. */
  #begin(build: Build): Promise<boolean> {
    const before = this.#active.get(build.id)
    before?.abort.abort()
    const abort = new AbortController()
    const done = (before?.done ?? Promise.resolve(true))
      .then(() => this.#tell(build, abort.signal))
      .finally(() => {
        if (this.#active.get(build.id)?.abort === abort) this.#active.delete(build.id)
      })
    this.#active.set(build.id, { done, abort })
    return done
  }

  /**
   * Reports ended builds whose status is not set yet: after a crash, once the forge is back, or its token
   * is a better one. Of each repository one after the other, until one fails: so do the rest, most likely.
   */
  async sweep(): Promise<void> {
    const left = (await this.#store.unreported()).filter(({ id }) => !this.#active.has(id))
    const repositories = Map.groupBy(left, ({ repository }) => repository.toLowerCase())
    await Promise.all(
      [...repositories.values()].map(async (builds) => {
        for (const build of builds) if (!(await this.#begin(build))) return
      }),
    )
  }

  /** Resolves when nothing is being reported. */
  async idle(): Promise<void> {
    while (this.#active.size > 0) await Promise.all([...this.#active.values()].map(({ done }) => done))
  }

  /** Gives up what is under way; a later sweep tells it. */
  async close(): Promise<void> {
    for (const { abort } of this.#active.values()) abort.abort()
    await this.idle()
  }

  async #tell(build: Build, signal: AbortSignal): Promise<boolean> {
    const status = commitStatus(build, this.#logUrl(build))
    try {
      if (signal.aborted) return false
      await this.#forge.setStatus(status, signal)
    } catch (thrown) {
      if (signal.aborted) return false
      const error = toConveyorError(thrown, `cannot set the commit status of ${shortName(build)}`)
      this.#log(`commit status "${status.state}": ${error.advice}`)
      if (!isFinal(error, build)) return false
    }
    if (isEnded(build.state)) await this.#markReported(build)
    return true
  }

  async #markReported(build: Build): Promise<void> {
    try {
      await this.#store.markReported(build.id)
    } catch (error) {
      this.#log(`noting that the commit status of ${shortName(build)} is set: ${(error as Error).message}`)
    }
  }
}

/** For so long a better token may still come. */
const TOKEN_PATIENCE_MS = 24 * 3600 * 1000

/** Whether the forge will never take the status of this build. */
function isFinal({ retryable, kind }: ConveyorError, { completedAt }: Build): boolean {
  const endedAgo = completedAt === null ? 0 : Date.now() - Date.parse(completedAt)
  return !retryable && !(kind === 'unauthorized' && endedAgo < TOKEN_PATIENCE_MS)
}

/** What a commit status says about a build. */
export function commitStatus(build: Build, targetUrl: string): CommitStatus {
  const common = { repository: build.repository, sha: build.sha, targetUrl }
  switch (build.state) {
    case 'pending':
    case 'building':
      return { ...common, state: 'pending', description: 'Image building.' }
    case 'succeeded':
      return { ...common, state: 'success', description: `Image built in ${duration(build)}.` }
    case 'failed':
    case 'cancelled': {
      // GitHub's `failure` is the build's own result; `error` is a part that broke around it.
      const broken = build.errorKind === 'unavailable' || build.errorKind === 'unauthorized'
      return { ...common, state: broken ? 'error' : 'failure', description: build.error ?? build.state }
    }
  }
}

/** `0.6s`, `42s`, `3m 5s`: from the start of the first attempt to the end. */
export function duration(build: Build): string {
  const ms = Date.parse(build.completedAt ?? '') - Date.parse(build.startedAt ?? build.createdAt)
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)}s`
  const seconds = Math.round(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m ${seconds % 60}s`
}
