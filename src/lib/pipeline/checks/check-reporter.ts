import { setTimeout as sleep } from 'node:timers/promises'
import { type Build, isEnded } from '../../core/build.ts'
import { toConveyorError } from '../../core/errors.ts'
import { about, type Log } from '../../core/log.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import type { Forge } from '../../forge/forge.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { keepNewest } from '../../util/collections/keep-newest.ts'
import { checkRunOf } from './check-run.ts'

/** Somebody who makes a check run and has not said what came of it after so many seconds has died. */
const MAKING_SECONDS = 180
/** How often to look whether whoever makes a check run has made it, in milliseconds. */
const POLL_MS = 500
/** How long a repository gets commit statuses after the forge has refused its check runs, in milliseconds. */
const REFUSED_MS = 10 * 60_000
const MOST_REFUSED = 1000
/** A build that waits longer than this, in seconds, gets a check run before it starts. */
const QUEUED_AFTER_S = 3
/** Per sweep. */
const MOST_QUEUED = 100

export interface CheckReporterOptions {
  forge: Pick<Forge, 'setCheckRun'>
  store: Pick<BuildStore, 'get' | 'checkRuns' | 'timelines' | 'artifactOf'>
  /** Where a run links to. */
  buildUrl: (build: Build) => string
  /** One sentence about the state of a build. */
  title: (build: Build) => string
  log: Log
  /** See POLL_MS. */
  pollMs?: number
}

/**
 * Shows builds as check runs, one for each build, whatever crashes: who makes a run is decided in the store, and a run that
 * may exist is looked for before another one is made.
 */
export class CheckReporter {
  readonly #options: CheckReporterOptions
  /** When the forge refused check runs, by repository in lower case; the one that is oldest comes first. */
  readonly #refused = new Map<string, number>()

  constructor(options: CheckReporterOptions) {
    this.#options = options
  }

  /**
   * Shows the state of a build, as long as `signal` is not aborted.
   * @param isOutdated whether the commit has a newer build: there is no new run for this one then
   * @returns `denied` if the forge refuses check runs: see `refused`; `off` if it did so before
   * @throws ConveyorError of the forge or the store
   */
  async set(build: Build, isOutdated: boolean, signal: AbortSignal): Promise<'set' | 'denied' | 'off'> {
    const known = await this.#begin(build, signal)
    if (known === 'refused') return 'off'
    const { checkRuns } = this.#options.store
    if (known.id === null) {
      if (this.#isRefused(build) && !known.mayExist) {
        await checkRuns.settle(build.id, 'none')
        return 'denied'
      }
      if (isOutdated && !known.mayExist) {
        await checkRuns.settle(build.id, 'none')
        return 'set'
      }
    }
    return (await this.#send(build, known, signal)) === null ? 'denied' : 'set'
  }

  /** The commit status of a build has been set in place of its check run: it will be so until the build has ended. */
  async refused(build: Build): Promise<void> {
    const { checkRuns } = this.#options.store
    this.#remember(build)
    await checkRuns.begin(build.id, MAKING_SECONDS)
    await checkRuns.settle(build.id, 'refused')
  }

  /**
   * Makes check runs for builds that have been waiting for a while; those that start soon get theirs when they start. Stops
   * at the first one that fails: the rest would most likely fail, too.
   * @throws ConveyorError
   */
  async queued(signal: AbortSignal): Promise<void> {
    const { store } = this.#options
    for (const { id } of await store.checkRuns.missing(QUEUED_AFTER_S, MOST_QUEUED)) {
      if (signal.aborted) return
      // It may have started meanwhile, which the run must not deny; whoever starts it now waits for this run.
      const known = await store.checkRuns.begin(id, MAKING_SECONDS)
      if (typeof known === 'string' || known.id !== null || known.mayExist) continue
      const build = await store.get(id)
      if (build?.state !== 'pending' || build.attempt > 0) await store.checkRuns.settle(id, 'none')
      else if (this.#isRefused(build)) await store.checkRuns.settle(id, 'refused')
      else if ((await this.#send(build, known, signal)) === null) await this.refused(build)
    }
  }

  /** What is known about the check run of a build, once nobody else is making it. */
  async #begin(
    { id }: Build,
    signal: AbortSignal,
  ): Promise<{ id: number } | { id: null; mayExist: boolean } | 'refused'> {
    for (;;) {
      signal.throwIfAborted()
      const state = await this.#options.store.checkRuns.begin(id, MAKING_SECONDS)
      if (state !== 'busy') return state
      await sleep(this.#options.pollMs ?? POLL_MS, undefined, { signal })
    }
  }

  /** @returns null if the forge refuses it */
  async #send(
    build: Build,
    known: { id: number } | { id: null; mayExist: boolean },
    signal: AbortSignal,
  ): Promise<number | null> {
    const { store, forge } = this.#options
    let outcome: number | 'none' | 'unknown' = known.id ?? (known.mayExist ? 'unknown' : 'none')
    try {
      const hasEnded = isEnded(build.state)
      const [timeline, artifact] = await Promise.all([
        hasEnded ? store.timelines.get(build.id) : null,
        build.state === 'succeeded' ? store.artifactOf(build.id) : null,
      ])
      const { title, buildUrl } = this.#options
      const run = checkRunOf({ build, title: title(build), detailsUrl: buildUrl(build), timeline, artifact })
      if (known.id === null) outcome = 'unknown'
      const id = await forge.setCheckRun(run, known, signal)
      if (known.id === null) outcome = id ?? 'none'
      if (id !== null) this.#refused.delete(repositoryKey(build.repository))
      return id
    } finally {
      if (known.id === null) await this.#settle(build, outcome)
    }
  }

  /** A run whose id is not recorded is found again by that of its build. */
  async #settle(build: Build, outcome: number | 'none' | 'unknown'): Promise<void> {
    try {
      await this.#options.store.checkRuns.settle(build.id, outcome)
    } catch (error) {
      const { message } = toConveyorError(error, 'the store failed')
      this.#options.log(`check run: could not be recorded: ${message}`, { ...about(build), level: 'warn' })
    }
  }

  #isRefused(build: Build): boolean {
    const at = this.#refused.get(repositoryKey(build.repository))
    return at !== undefined && performance.now() - at < REFUSED_MS
  }

  #remember(build: Build): void {
    const key = repositoryKey(build.repository)
    if (!this.#isRefused(build)) {
      const line = `${build.repository}: GitHub accepts no check runs from this token or App (403 or 404): commit statuses are set instead`
      this.#options.log(line, { ...about(build), level: 'warn' })
    }
    keepNewest(this.#refused, key, performance.now(), MOST_REFUSED)
  }
}
