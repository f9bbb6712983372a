import { type Build, cancelledBy, cancelReason, isEnded, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { about, type Log } from '../core/log.ts'
import { linesTo } from '../core/one-line.ts'
import type { LogStore, LogWriter } from '../logs/log-store.ts'
import type { Job, Queue } from '../queue/queue.ts'
import type { SharedLock } from '../util/locks/shared-lock.ts'
import { count, countedAttempt, cutOff, header, requestedDelay, tookTooLong } from './attempts/texts.ts'
import type { CancelWatch } from './control/cancel-watch.ts'
import { type AttemptObserver, type BuildObserver, NO_OBSERVER } from './observer.ts'
import type { BuildParts, SecretRedactor } from './parts.ts'
import { takenOver } from './publish.ts'
import { partsFor } from './pulls/forks.ts'
import { redactedParts } from './redacted-parts.ts'
import { runBuild } from './run-build.ts'
import type { StatusReporter } from './status-reporter.ts'
import { TimelineRecorder } from './timeline/recorder.ts'

export interface AttemptOptions {
  queue: Queue
  logs: LogStore
  statuses: StatusReporter
  parts: BuildParts
  newRedactor: () => SecretRedactor
  /** Time limit of an attempt, in milliseconds. */
  timeoutMs: number
  /** Delays before further attempts, in seconds. A build gets one attempt more than there are delays. */
  retryDelays: number[]
  /** Called with each build that has ended, once that is stored. */
  onEnd?: (build: Build) => void
  observer?: BuildObserver
  /** The worker's own log, one line at a time. */
  log: Log
}

/**
 * What happens to the job: it is done; another worker has taken over its build, and will acknowledge it; or it is
 * delivered again after some seconds.
 */
export type Next = 'ended' | 'superseded' | { retryIn: number }

/** One attempt at a build, under the lease of its job. */
export class Attempt {
  readonly #build: Build
  readonly #options: AttemptOptions
  readonly #job: Job
  readonly #now: AbortSignal
  readonly #cancels: CancelWatch
  readonly #end = new AbortController()
  /** Masks the secrets that this attempt's build is given; see redacted-parts.ts. */
  readonly #redactor: SecretRedactor
  readonly #observer: AttemptObserver
  readonly #timeline: TimelineRecorder
  #log: LogWriter | undefined
  /** Whether the result is stored: a lost lease no longer matters then. */
  #isStored = false

  /**
   * @param now requeues the build
   * @param cancels tells if somebody cancels it
   */
  constructor(build: Build, job: Job, options: AttemptOptions, now: AbortSignal, cancels: CancelWatch) {
    this.#cancels = cancels
    this.#build = build
    this.#job = job
    this.#options = options
    this.#now = now
    this.#redactor = options.newRedactor()
    this.#observer = (options.observer ?? NO_OBSERVER).attempt(build)
    this.#timeline = new TimelineRecorder(build, {
      timelines: options.parts.store.timelines,
      redactor: this.#redactor,
      warn: (line) => this.#warn(line),
    })
  }

  async run(builds: SharedLock): Promise<Next> {
    const heartbeat = setInterval(() => this.#keepLease(), (this.#options.queue.leaseSeconds * 1000) / 3)
    try {
      const next = await this.#untilStored(builds).catch(async (error) => {
        this.#observer.over('unstored', toConveyorError(error, 'storing the result failed'))
        await this.#log?.close().catch(() => {}) // the store's error says more
        throw error
      })
      this.#isStored = true
      // Closing a long log takes a while, and the job is ours until then.
      const recorded = next === 'superseded' ? undefined : this.#timeline.end()
      if (next === 'ended') await Promise.all([this.#log?.end(), this.#report(recorded), recorded])
      else await Promise.all([this.#log?.close(), recorded])
      return next
    } finally {
      clearInterval(heartbeat)
      this.#timeline.stop()
    }
  }

  /** Runs the attempt, and stores its result. */
  async #untilStored(builds: SharedLock): Promise<Next> {
    const { signal } = this.#end
    const forgetShutdown = this.#endAtShutdown()
    const forgetCancel = this.#endAtCancel()
    try {
      await this.#removeLeftovers()
      const { suspect = false } = this.#build
      if (suspect) {
        const line = `${shortName(this.#build)} runs alone: ${SUSPECT}`
        this.#options.log(line, { ...about(this.#build), level: 'warn' })
      }
      await builds.run(suspect, signal, () => this.#inTime())
      this.#over('ended', null)
      return 'ended'
    } catch (thrown) {
      const error = toConveyorError(
        signal.aborted ? signal.reason : thrown,
        `building ${shortName(this.#build)} failed`,
      )
      if (await this.#hasSucceeded()) {
        const why = this.#redactor.redact(error.advice)
        this.#warn(`it succeeded, and then: ${why}`)
        this.#over('ended', null)
        return 'ended'
      }
      const next = await this.#afterError(error)
      this.#over(typeof next === 'string' ? next : 'retried', error)
      return next
    } finally {
      forgetCancel()
      forgetShutdown()
    }
  }

  /**
   * Removes the container of an earlier attempt whose process died: it would go on while this one waits to run alone, and
   * after it if this one starts none, as it is one too many, or cancelled.
   */
  async #removeLeftovers(): Promise<void> {
    const { container } = this.#options.parts
    const { id, attempt } = this.#build
    if (!container || attempt === 1) return
    try {
      for (const found of await container.containers(id)) {
        if (found.attempt === null || found.attempt < attempt) await found.remove()
      }
    } catch (error) {
      // Another container of this build needs the same engine, and would fail with it.
      this.#warn(`removing what earlier attempts left: ${toConveyorError(error, 'failed').advice}`)
    }
  }

  /** Whether the success is stored: what follows may fail, and the answer of the store may be lost. */
  async #hasSucceeded(): Promise<boolean> {
    const { id, attempt } = this.#build
    const current = await this.#options.parts.store.get(id).catch(() => null)
    return current?.attempt === attempt && current.state === 'succeeded'
  }

  #over(outcome: 'ended' | 'retried' | 'superseded', error: ConveyorError | null): void {
    this.#observer.timeline(() => this.#timeline.timeline(true))
    this.#observer.over(outcome, error)
  }

  /** The attempt, aborted at its time limit. */
  async #inTime(): Promise<void> {
    const { timeoutMs, parts } = this.#options
    const { id, attempt, suspect } = this.#build
    if (suspect && !(await parts.store.begin(id, attempt))) throw takenOver(this.#build)
    const timeout = setTimeout(() => this.#end.abort(tookTooLong(this.#build, timeoutMs)), timeoutMs)
    try {
      await this.#attempt()
    } finally {
      clearTimeout(timeout)
    }
  }

  /** Reports the result that is stored, which may be another worker's. */
  async #report(recorded: Promise<void> | undefined): Promise<void> {
    const { parts, statuses, onEnd } = this.#options
    const build = await parts.store.get(this.#build.id)
    if (!build || !isEnded(build.state)) return
    statuses.report(build, recorded)
    this.#observer.ended(build)
    onEnd?.(build)
  }

  async #attempt(): Promise<void> {
    const { statuses, parts } = this.#options
    const build = this.#build
    const log = await this.#openLog()
    if (countedAttempt(build) > this.#attempts) throw cutOff(build)
    const [last] = await Promise.all([
      parts.store.lastArtifact(build.repository, []),
      linesTo(log)(...header(build, this.#attempts)),
    ])
    let reported = false
    const report = () => {
      if (!reported) statuses.report(build)
      reported = true
    }
    // Without an image or a Dockerfile, a repository has nothing to do with us: see Build.neutral.
    const isOurs = last !== null
    // An image that is reused right away needs no pending status.
    const late = isOurs ? setTimeout(report, PENDING_AFTER_MS) : undefined
    try {
      const io = {
        log,
        signal: this.#end.signal,
        ...(isOurs ? { onBegin: report } : { onDockerfile: report }),
        observer: this.#observer,
        timeline: this.#timeline,
      }
      await runBuild(build, redactedParts(partsFor(build, parts), this.#redactor), io)
    } catch (error) {
      // A build that another worker has taken over is reported by that one, and a cancelled one when it ends.
      const isGone = error instanceof ConveyorError && error.kind === 'cancelled'
      if (isOurs && !isGone && !this.#end.signal.aborted) report()
      throw error
    } finally {
      clearTimeout(late)
    }
  }

  async #afterError(error: ConveyorError): Promise<Next> {
    const { retryDelays, parts } = this.#options
    const { store } = parts
    const { id, attempt, refs } = this.#build
    if (this.#now.aborted) {
      await this.#note('the worker is shutting down; the build was requeued and will be retried')
      return (await store.release(id, attempt, { counts: false })) ? { retryIn: 0 } : this.#cancelled()
    }
    if (error.kind === 'cancelled') return this.#cancelled()
    await this.#note(`error: ${error.advice}`)
    const counted = countedAttempt(this.#build)
    const delay = retryDelays[counted - 1]
    if (error.retryable && delay !== undefined) {
      const retryIn = Math.max(delay, requestedDelay(error))
      await this.#note(`trying again in ${retryIn} s`)
      return (await store.release(id, attempt, { retryIn })) ? { retryIn } : this.#cancelled()
    }
    if (error.retryable) await this.#note(`giving up after ${count(counted, 'attempt')}`)
    const finish = await store.finish(id, attempt, refs.length, {
      state: 'failed',
      error: this.#redactor.redact(error.advice),
      errorKind: error.kind,
      noDockerfile: error.code === 'no_dockerfile',
    })
    return finish === 'finished' ? 'ended' : this.#cancelled()
  }

  /** The result of this attempt does not count: somebody cancelled the build, or another worker has it. */
  async #cancelled(): Promise<'ended' | 'superseded'> {
    const { parts } = this.#options
    const { id, attempt } = this.#build
    const current = await parts.store.get(id)
    if (current?.attempt !== attempt || current.state !== 'building' || !current.cancel) return 'superseded'
    const error = cancelReason(current)
    await this.#note(error)
    const result = { state: 'cancelled', error, errorKind: 'cancelled' } as const
    const finish = await parts.store.finish(id, attempt, current.refs.length, result)
    return finish === 'finished' ? 'ended' : 'superseded'
  }

  /** Opens the build's log, unless that is done. */
  async #openLog(): Promise<LogWriter> {
    this.#log ??= this.#redactor.wrap(await this.#options.logs.open(this.#build.id))
    return this.#log
  }

  /** Writes a line to the build's log, which ends with it if the build does; or, if that fails, to the worker's. */
  async #note(line: string): Promise<void> {
    try {
      await linesTo(await this.#openLog())('', line)
    } catch (error) {
      const why = (error as Error).message
      this.#warn(`${this.#redactor.redact(line)} (not in the build log: ${why})`)
    }
  }

  /** Writes a line to the worker's log. */
  #warn(line: string): void {
    this.#options.log(`${shortName(this.#build)}: ${line}`, { ...about(this.#build), level: 'warn' })
  }

  get #attempts(): number {
    return this.#options.retryDelays.length + 1
  }

  #endAtShutdown(): () => void {
    const shutdown = () => this.#end.abort(new ConveyorError('cancelled', 'the worker is shutting down'))
    this.#now.addEventListener('abort', shutdown, { once: true })
    if (this.#now.aborted) shutdown()
    return () => this.#now.removeEventListener('abort', shutdown)
  }

  /** Aborts the attempt, which stops the engine's work, when somebody cancels the build or already has. */
  #endAtCancel(): () => void {
    const { id, cancel } = this.#build
    const end = (by: string) => this.#end.abort(new ConveyorError('cancelled', cancelledBy(by)))
    if (cancel) end(cancel.by)
    return cancel ? () => {} : this.#cancels.watch(id, end)
  }

  /**
   * Extends the lease, and aborts the attempt if another worker has the build now; a queue that does not answer may do
   * so the next time. If the queue may deliver a job twice, the store decides whose build it is: its hold is extended
   * even if the message is no longer ours.
   */
  async #keepLease(): Promise<void> {
    const { queue, parts, log } = this.#options
    const { id, attempt } = this.#build
    const hold = async () => {
      if (!(await parts.store.hold(id, attempt, queue.leaseSeconds))) throw takenOver(this.#build)
    }
    const kept = await Promise.allSettled([
      this.#job.extend(queue.leaseSeconds),
      queue.duplicates && !this.#isStored && hold(),
    ])
    if (this.#isStored) return
    for (const one of kept) {
      if (one.status === 'fulfilled') continue
      const error = toConveyorError(one.reason, 'it could not be extended')
      log(`lease of ${shortName(this.#build)}: ${error.message}`, { ...about(this.#build), level: 'warn' })
      if (error.retryable) continue
      this.#observer.leaseLost()
      this.#end.abort(takenOver(this.#build))
    }
  }
}

/** A build that takes longer than this, in milliseconds, gets a pending status. */
const PENDING_AFTER_MS = 1000

const SUSPECT = 'its process died while running several builds, any of which may be the cause'
