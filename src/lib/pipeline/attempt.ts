import { type Build, cancelledBy, cancelReason, isEnded, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { about, type Log } from '../core/log.ts'
import { linesTo } from '../core/one-line.ts'
import { refTitle } from '../core/validate.ts'
import type { LogStore, LogWriter } from '../logs/log-store.ts'
import type { Job, Queue } from '../queue/queue.ts'
import type { SharedLock } from '../util/locks/shared-lock.ts'
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
      warn: (line) => options.log(`${shortName(build)}: ${line}`, { ...about(build), level: 'warn' }),
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
      const next = await this.#afterError(error)
      this.#over(typeof next === 'string' ? next : 'retried', error)
      return next
    } finally {
      forgetCancel()
      forgetShutdown()
    }
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
    const { statuses, logs, parts } = this.#options
    const build = this.#build
    const log = this.#redactor.wrap(await logs.open(build.id))
    this.#log = log
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
    const { logs, parts } = this.#options
    const { id, attempt } = this.#build
    const current = await parts.store.get(id)
    if (current?.attempt !== attempt || current.state !== 'building' || !current.cancel) return 'superseded'
    const error = cancelReason(current)
    try {
      this.#log ??= this.#redactor.wrap(await logs.open(id))
    } catch {
      // The note says so.
    }
    await this.#note(error)
    const result = { state: 'cancelled', error, errorKind: 'cancelled' } as const
    const finish = await parts.store.finish(id, attempt, current.refs.length, result)
    return finish === 'finished' ? 'ended' : 'superseded'
  }

  /** Writes a line to the build's log or, if that fails, to the worker's. */
  async #note(line: string): Promise<void> {
    try {
      if (!this.#log) throw new Error('it could not be opened')
      await linesTo(this.#log)('', line)
    } catch (error) {
      const why = (error as Error).message
      const text = `${shortName(this.#build)}: ${line} (not in the build log: ${why})`
      this.#options.log(text, { ...about(this.#build), level: 'warn' })
    }
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

/** The number of this attempt, without those that do not count; see Build.spared. */
function countedAttempt({ attempt, spared = 0 }: Build): number {
  return attempt - spared
}

/** The longest delay that is granted to a server, in seconds. */
const MAX_REQUESTED_DELAY = 1800

/** How long the failing server wants to be left alone (Retry-After), in seconds. */
function requestedDelay({ retryAfterMs = 0 }: ConveyorError): number {
  return Math.min(Math.ceil(retryAfterMs / 1000), MAX_REQUESTED_DELAY)
}

function header(build: Build, attempts: number): string[] {
  const refs = build.refs.map(refTitle).join(', ')
  const cache = build.cache ? '' : ', no cache'
  const what = `building ${build.repository}@${build.sha}${refs && ` (${refs})`}${cache}`
  const why = build.reason === undefined ? [] : [`because: ${build.reason}`]
  const counted = countedAttempt(build)
  return counted > 1 ? ['', what, ...why, `attempt ${counted} of ${attempts}`] : [what, ...why]
}

function tookTooLong(build: Build, ms: number): ConveyorError {
  const limit = ms < 120_000 ? `${ms / 1000} s` : `${+(ms / 60_000).toFixed(1)} minutes`
  return new ConveyorError('timeout', `building ${shortName(build)} took longer than ${limit}`, {
    hint: 'Find the slow step in the log, or raise --timeout (TIMEOUT)',
  })
}

/** All attempts are used up, and the last one was interrupted. */
function cutOff(build: Build): ConveyorError {
  const attempts = count(countedAttempt(build) - 1, 'attempt')
  return new ConveyorError(
    'unavailable',
    `gave up building ${shortName(build)} after ${attempts}: the process that ran the last one died`,
    {
      hint: "Find the cause in Conveyor's own log and the system's (out of memory?), then push again",
      retryable: false,
    },
  )
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
