import { type Build, isEnded, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { about, type Log } from '../core/log.ts'
import { repositoryKey } from '../core/repository-key.ts'
import type { CommitStatus, Forge } from '../forge/forge.ts'
import type { BuildStore } from '../store/build-store.ts'
import { atMost } from '../util/lifecycle.ts'
import { retry } from '../util/retry.ts'
import { CheckReporter } from './checks/check-reporter.ts'
import { type BuildObserver, NO_OBSERVER } from './observer.ts'

/**
 * Delays between tries, in milliseconds, while the forge answers that there is no such commit or repository: GitHub
 * does so for some seconds after a push.
 */
const WAITS_MS = [1, 2, 4, 8, 15, 30, 60, 60, 60].map((seconds) => seconds * 1000)
/** How long to wait for a request that is in flight before the next report replaces it. */
const ARRIVAL_MS = 2000
/** Builds of one repository that a sweep reports; the next one reports the others. */
const MOST_AT_ONCE = 100

/** A report under way. */
interface Report {
  /** Resolves to whether the forge has given its final answer. */
  done: Promise<boolean>
  /** Aborts it. */
  abort: AbortController
  /** Aborted when there is a newer report: this one is not retried. */
  replaced: AbortController
}

/**
 * Sets commit statuses and check runs, concurrently with the builds: one that cannot be set never delays or fails a build. It
 * stays in the store as unreported, and `sweep` tries again.
 */
export class StatusReporter {
  readonly #forge: Pick<Forge, 'setStatus'>
  readonly #checks: CheckReporter | null
  readonly #alsoStatuses: boolean
  readonly #closing = new AbortController()
  readonly #store: BuildStore
  readonly #buildUrl: (build: Build) => string
  readonly #log: Log
  readonly #observer: Pick<BuildObserver, 'commitStatus'>
  readonly #waitsMs: readonly number[]
  /** By build id. */
  readonly #active = new Map<string, Report>()

  constructor(options: {
    forge: Pick<Forge, 'setStatus'>
    store: BuildStore
    /** Where the status links to. */
    buildUrl: (build: Build) => string
    /** Receives what could not be reported, one line at a time. */
    log: Log
    observer?: Pick<BuildObserver, 'commitStatus'>
    /**
     * Shows builds as check runs, and as commit statuses where the forge refuses them, or as both. Without it, there are
     * only statuses.
     */
    checks?: { forge: Pick<Forge, 'setCheckRun'>; mode: 'on' | 'both' }
    /** See WAITS_MS. */
    waitsMs?: readonly number[]
  }) {
    const { checks, store, log, buildUrl } = options
    const title = (build: Build) => commitStatus(build, '').description
    this.#checks = checks ? new CheckReporter({ forge: checks.forge, store, buildUrl, title, log }) : null
    this.#alsoStatuses = checks?.mode === 'both'
    this.#forge = options.forge
    this.#store = options.store
    this.#buildUrl = options.buildUrl
    this.#log = options.log
    this.#observer = options.observer ?? NO_OBSERVER
    this.#waitsMs = options.waitsMs ?? WAITS_MS
  }

  /**
   * Reports the current state of a build, and cancels the retries of an earlier report.
   * @param recorded resolves once the store has what a check run shows besides; never rejects
   */
  report(build: Build, recorded?: Promise<void>): void {
    void this.#begin(build, this.#waitsMs, recorded)
  }

  /** Makes check runs for builds that wait, if there are check runs. @throws ConveyorError */
  async reportQueued(): Promise<void> {
    await this.#checks?.queued(this.#closing.signal)
  }

  /** Resolves to whether the forge has given its final answer. */
  #begin(build: Build, waitsMs: readonly number[], recorded?: Promise<void>): Promise<boolean> {
    const before = this.#active.get(build.id)
    const abort = new AbortController()
    const replaced = new AbortController()
    const done = replace(before)
      .then(() => (this.#checks ? recorded : undefined))
      .then(() => this.#report(build, { abort: abort.signal, replaced: replaced.signal }, waitsMs))
      .finally(() => {
        if (this.#active.get(build.id)?.abort === abort) this.#active.delete(build.id)
      })
    this.#active.set(build.id, { done, abort, replaced })
    return done
  }

  /**
   * Reports ended builds whose status is not set yet: after a crash, an outage of the forge, or with a new token. The
   * builds of a repository are reported one after the other, until one fails: the rest would most likely fail, too.
   * @param seconds how long ago they ended at least, so that another process which has ended one can report it first
   */
  async sweep(seconds = 0): Promise<void> {
    const left = await this.#store.unreported(seconds)
    const repositories = Map.groupBy(left, ({ repository }) => repositoryKey(repository))
    await Promise.all(
      [...repositories.values()].map(async (builds) => {
        for (const build of builds.slice(0, MOST_AT_ONCE)) {
          // Its turn may come long after the list was read.
          const isLeft = await this.#store.isUnreported(build.id)
          if (this.#closing.signal.aborted) return
          if (!isLeft || this.#active.has(build.id)) continue
          if (!(await this.#begin(build, []))) return
        }
      }),
    )
  }

  /** Resolves once nothing is being reported. */
  async idle(): Promise<void> {
    while (this.#active.size > 0) await Promise.all([...this.#active.values()].map(({ done }) => done))
  }

  /** Aborts all reports; a later sweep makes up for them. */
  async close(): Promise<void> {
    this.#closing.abort()
    for (const { abort } of this.#active.values()) abort.abort()
    await this.idle()
  }

  async #report(build: Build, ends: Ends, waitsMs: readonly number[]): Promise<boolean> {
    const status = commitStatus(build, this.#buildUrl(build))
    const error = await this.#try(status, build, ends, waitsMs)
    if (error === 'given up') return false
    if (error === 'unwanted') {
      await this.#markReported(build)
      return true
    }
    if (error) {
      this.#log(`commit status "${status.state}": ${error.advice}`, { ...about(build), level: 'error' })
    }
    const result = error === null ? 'set' : isFinal(error, build) ? 'refused' : 'failed'
    this.#observer.commitStatus(build, result)
    if (result === 'failed') return false
    if (isEnded(build.state)) await this.#markReported(build)
    else if (error === null && !ends.abort.aborted) await this.#repeatFinal(build)
    return true
  }

  /** The build as it is now, if the attempt that is reported is over, in whatever process. */
  async #later({ id, attempt, state }: Build): Promise<Build | null> {
    if (isEnded(state)) return null
    const now = await this.#store.get(id)
    return now && (isEnded(now.state) || now.attempt !== attempt) ? now : null
  }

  /** Reports the end once more if another process did so while this one waited for the forge, and so was overtaken. */
  async #repeatFinal(build: Build): Promise<void> {
    try {
      const ended = await this.#later(build)
      if (!ended || !isEnded(ended.state)) return
      // Whoever reports it has not done so yet otherwise, or the sweep will.
      if (!(await this.#store.isUnreported(ended.id))) this.report(ended)
    } catch (error) {
      const line = `could not look whether ${shortName(build)} has ended: ${(error as Error).message}`
      this.#log(line, { ...about(build), level: 'warn' })
    }
  }

  /** Whether a commit that is built again has the status of a later build: two builds overlap if one is cancelled. */
  async #isOutdated({ id, repository, sha, state }: Build): Promise<boolean> {
    if (!isEnded(state)) return false
    const newest = await this.#store.newest(repository, sha, 'any')
    return newest !== null && newest.id !== id
  }

  /** Null if the forge has accepted the status, otherwise the error of the last try. */
  async #try(
    status: CommitStatus,
    build: Build,
    { abort, replaced }: Ends,
    waitsMs: readonly number[],
  ): Promise<ConveyorError | 'given up' | 'unwanted' | null> {
    if (abort.aborted) return 'given up'
    const signal = AbortSignal.any([abort, replaced])
    let logged = false
    try {
      const set = async () => {
        // Another process may have reported its end since, which this would overwrite.
        if (await this.#later(build)) return 'given up' as const
        const isOutdated = await this.#isOutdated(build)
        const checked = await this.#checks?.set(build, isOutdated, abort)
        if (isOutdated) return 'unwanted' as const
        if (checked === 'set' && !this.#alsoStatuses) return null
        // Statuses have no neutral state.
        if (build.neutral) return 'unwanted' as const
        await this.#forge.setStatus(status, abort)
        if (checked === 'denied') await this.#checks?.refused(build)
        return null
      }
      return await retry(set, {
        delays: waitsMs,
        isRetryable: (thrown) =>
          !abort.aborted && thrown instanceof ConveyorError && thrown.kind === 'not_found',
        signal,
        onRetry: (thrown) => {
          if (logged) return
          logged = true
          const { message } = thrown as Error
          const line = `commit status "${status.state}": ${message}; retrying for several minutes`
          this.#log(line, { ...about(build), level: 'warn' })
        },
      })
    } catch (thrown) {
      if (abort.aborted || (signal.aborted && thrown === signal.reason)) return 'given up'
      return toConveyorError(thrown, `cannot set the commit status of ${shortName(build)}`)
    }
  }

  async #markReported(build: Build): Promise<void> {
    try {
      await this.#store.markReported(build.id)
    } catch (error) {
      this.#log(
        `could not record that the commit status of ${shortName(build)} is set: ${(error as Error).message}`,
        { ...about(build), level: 'warn' },
      )
    }
  }
}

/** What ends the retries of a report. */
interface Ends {
  abort: AbortSignal
  replaced: AbortSignal
}

/** Ends a report for the next one; a request that is in flight gets the time to arrive first. */
async function replace(before: Report | undefined): Promise<void> {
  if (!before) return
  before.replaced.abort()
  const done = before.done.then(() => {})
  await atMost(ARRIVAL_MS, done)
  before.abort.abort()
  await done
}

/** How long somebody may take to configure a better token, or to grant it access to the repository. */
const TOKEN_PATIENCE_MS = 24 * 3600 * 1000

/** Whether the forge will never accept the status of this build. */
function isFinal({ retryable, kind }: ConveyorError, { completedAt }: Build): boolean {
  const endedAgo = completedAt === null ? 0 : Date.now() - Date.parse(completedAt)
  const mayPass = kind === 'unauthorized' || kind === 'not_found'
  return !retryable && !(mayPass && endedAgo < TOKEN_PATIENCE_MS)
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
    case 'cancelled':
      return { ...common, state: 'error', description: sentence(build.error ?? build.state) }
    case 'failed': {
      // For GitHub, `failure` is the result of the build itself, and `error` a problem around it.
      const broken = build.errorKind === 'unavailable' || build.errorKind === 'unauthorized'
      return { ...common, state: broken ? 'error' : 'failure', description: build.error ?? build.state }
    }
  }
}

/** `cancelled by ada` as `Cancelled by ada.` */
function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

/** `0.6s`, `42s`, `3m 5s`: from the beginning of the first attempt to the end. */
export function duration(build: Build): string {
  const ms = Date.parse(build.completedAt ?? '') - Date.parse(build.startedAt ?? build.createdAt)
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)}s`
  const seconds = Math.round(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m ${seconds % 60}s`
}
