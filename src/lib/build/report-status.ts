import { toConveyorError } from '../errors.ts'
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
  readonly #active = new Map<string, { done: Promise<void>; abort: AbortController }>()

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
    const before = this.#active.get(build.id)
    before?.abort.abort()
    const abort = new AbortController()
    const done = (before?.done ?? Promise.resolve())
      .then(() => this.#tell(build, abort.signal))
      .finally(() => {
        if (this.#active.get(build.id)?.abort === abort) this.#active.delete(build.id)
      })
    this.#active.set(build.id, { done, abort })
  }

  /** Reports ended builds whose status is not set yet: after a crash, or once the forge is back. */
  async sweep(): Promise<void> {
    for (const build of await this.#store.unreported()) {
      if (!this.#active.has(build.id)) this.report(build)
    }
    await this.idle()
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

  async #tell(build: Build, signal: AbortSignal): Promise<void> {
    const status = commitStatus(build, this.#logUrl(build))
    try {
      if (signal.aborted) return
      await this.#forge.setStatus(status, signal)
      if (isEnded(build.state)) await this.#store.markReported(build.id)
    } catch (thrown) {
      if (signal.aborted) return
      const error = toConveyorError(thrown, 'the forge did not answer')
      this.#log(`commit status "${status.state}" of ${shortName(build)} is not set: ${error.advice}`)
      if (isEnded(build.state) && !error.retryable) await this.#store.markReported(build.id)
    }
  }
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
