import { setTimeout as sleep } from 'node:timers/promises'
import { type Build, isEnded, shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import type { LogStore, LogWriter } from '../logs/log-store.ts'
import { Redactor } from '../logs/redact.ts'
import { parseProxy } from '../net/proxies.ts'
import type { Job, Queue } from '../queue/queue.ts'
import type { Shutdown } from '../util/lifecycle.ts'
import { SideBySide } from '../util/side-by-side.ts'
import { requestBuild } from './accept.ts'
import type { WarmRepositories } from './cache/warm.ts'
import { placeCommit } from './resolve-request.ts'
import { type BuildParts, runBuild } from './run-build.ts'
import type { StatusReporter } from './status-reporter.ts'

export interface WorkerOptions {
  queue: Queue
  logs: LogStore
  statuses: StatusReporter
  parts: BuildParts
  /** What this worker is warm for: the queue is told, and what was built here is added. */
  warm: WarmRepositories
  /** Milliseconds that a build may take. */
  timeoutMs: number
  /** Waits before another attempt, in seconds. A build gets one attempt more than there are numbers. */
  retryDelays: number[]
  /** Told how each build ended, when that is stored. */
  onEnd?: (build: Build) => void
  /** Told what a person who runs the worker should know, one line at a time. */
  log: (line: string) => void
}

/**
 * Takes jobs from the queue and builds, `concurrency` at a time, until it is asked to stop. Builds that
 * run then go on to their end, unless that has to be now: they are given back to the queue. Resolves when
 * none is left.
 */
export async function work(options: WorkerOptions, concurrency: number, shutdown: Shutdown): Promise<void> {
  const builds = new SideBySide()
  await Promise.all(Array.from({ length: concurrency }, () => workLoop(options, shutdown, builds)))
}

async function workLoop(options: WorkerOptions, { stop, now }: Shutdown, builds: SideBySide): Promise<void> {
  while (!stop.aborted) {
    try {
      await builds.room(stop)
      const { full } = builds
      const signal = AbortSignal.any([stop, full])
      const job = await options.queue.receive(signal, { warm: options.warm.list() })
      if (job && full.aborted) await job.release(0)
      else if (job) await handle(job, options, now, builds)
    } catch (error) {
      // The queue or the store does not answer. Nothing is lost: the job's lease runs out.
      options.log(`worker: ${toConveyorError(error, 'taking a job failed').advice}`)
      await sleep(1000, undefined, { signal: stop }).catch(() => {}) // aborted: the loop ends
    }
  }
}

/** After how many seconds a queue in memory asks again for what another process has: to ask costs little there. */
const HELD_AGAIN = 3

/** One job: claim its build, run an attempt under the job's lease, store how it ended, let go of the job. */
async function handle(job: Job, options: WorkerOptions, now: AbortSignal, builds: SideBySide): Promise<void> {
  const { queue, parts, warm } = options
  const { store } = parts
  const build = queue.duplicates
    ? await store.claimFor(job.buildId, queue.leaseSeconds)
    : await store.claim(job.buildId)
  // Another delivery of the same job: of a build that runs elsewhere, and may still be cut off there;
  // or of one that has ended.
  if (build === 'held') return job.release(queue.durable ? queue.leaseSeconds : HELD_AGAIN)
  if (!build) return withoutBuild(job, options)
  if (!build.suspect && builds.full.aborted) {
    await store.release(build.id, build.attempt, { counts: false })
    return job.release(0)
  }

  const next = await new Attempt(build, job, options, now).run(builds)
  if (next === 'superseded') return store.survived()
  warm.add(build.repository)
  if (next !== 'ended') return job.release(next.againIn)
  await job.acknowledge()
}

/**
 * A job whose build has ended, and whose worker may have died before it ended the log; or which never was in
 * the store, as another program has sent it.
 */
async function withoutBuild(job: Job, options: WorkerOptions): Promise<void> {
  const { store } = options.parts
  const build = await store.get(job.buildId)
  if (build) await (await options.logs.open(build.id)).end()
  else if (job.request) {
    const placed = await placeCommit(job.request, options.parts)
    await requestBuild({ ...job.request, ...placed }, { store, queue: options.queue, log: options.log })
  }
  await job.acknowledge()
}

/**
 * What becomes of the job: it is done with; it is another worker's now, which lets go of it; or it is
 * delivered again after some seconds.
 */
type Next = 'ended' | 'superseded' | { againIn: number }

class Attempt {
  readonly #build: Build
  readonly #options: WorkerOptions
  readonly #job: Job
  readonly #now: AbortSignal
  readonly #end = new AbortController()
  /** Of this attempt alone, and of what its build is given: see `#redactedParts`. */
  readonly #redactor = new Redactor()
  #log: LogWriter | undefined
  /** Whether how it ended is stored: what the heartbeat hears then is no news. */
  #over = false

  /** @param now gives the build back */
  constructor(build: Build, job: Job, options: WorkerOptions, now: AbortSignal) {
    this.#build = build
    this.#job = job
    this.#options = options
    this.#now = now
  }

  async run(builds: SideBySide): Promise<Next> {
    const heartbeat = setInterval(() => this.#keepLease(), (this.#options.queue.leaseSeconds * 1000) / 3)
    try {
      const next = await this.#untilStored(builds).catch(async (error) => {
        await this.#log?.close().catch(() => {}) // the store's error says more
        throw error
      })
      this.#over = true
      // A long log takes a while to close, and the job is ours until then.
      if (next === 'ended') await Promise.all([this.#log?.end(), this.#report()])
      else await this.#log?.close()
      return next
    } finally {
      clearInterval(heartbeat)
    }
  }

  /** The attempt, and what becomes of its build. */
  async #untilStored(builds: SideBySide): Promise<Next> {
    const { signal } = this.#end
    const forgetShutdown = this.#endAtShutdown()
    try {
      const { suspect = false } = this.#build
      if (suspect) this.#options.log(`${shortName(this.#build)} is built alone: ${SUSPECT}`)
      await builds.run(suspect, signal, () => this.#inTime())
      return 'ended'
    } catch (thrown) {
      const error = toConveyorError(
        signal.aborted ? signal.reason : thrown,
        `building ${shortName(this.#build)} failed`,
      )
      return await this.#afterError(error)
    } finally {
      forgetShutdown()
    }
  }

  /** The attempt, which is aborted at its time limit. */
  async #inTime(): Promise<void> {
    const { timeoutMs, parts } = this.#options
    const { id, attempt, suspect } = this.#build
    if (suspect && !(await parts.store.begin(id, attempt))) throw taken(this.#build)
    const timeout = setTimeout(() => this.#end.abort(tookTooLong(this.#build, timeoutMs)), timeoutMs)
    try {
      await this.#attempt()
    } finally {
      clearTimeout(timeout)
    }
  }

  /** Tells how the build has ended: the store may know better than this attempt. */
  async #report(): Promise<void> {
    const { parts, statuses, onEnd } = this.#options
    const build = await parts.store.get(this.#build.id)
    if (!build || !isEnded(build.state)) return
    statuses.report(build)
    onEnd?.(build)
  }

  async #attempt(): Promise<void> {
    const { statuses, logs } = this.#options
    const build = this.#build
    const log = this.#redactor.wrap(await logs.open(build.id))
    this.#log = log
    if (turnOf(build) > this.#attempts) throw cutOff(build)
    await linesTo(log)(...header(build, this.#attempts))
    let told = false
    // An image that is reused at once needs no status of its beginning.
    const onBegin = () => {
      if (!told) statuses.report(build)
      told = true
    }
    const late = setTimeout(onBegin, AT_ONCE_MS)
    try {
      await runBuild(build, this.#redactedParts(), { log, signal: this.#end.signal, onBegin })
    } catch (error) {
      // Of what another worker builds now, that one tells.
      const isGone = error instanceof ConveyorError && error.kind === 'cancelled'
      if (!isGone && !this.#end.signal.aborted) onBegin()
      throw error
    } finally {
      clearTimeout(late)
    }
  }

  /**
   * The parts, whose secrets the log masks from then on. Only those that the build may see anyway: it could print
   * candidates of any other, and read in its log which one was right.
   */
  #redactedParts(): BuildParts {
    const { parts } = this.#options
    const secrets = async (repository: string) => {
      const found = await parts.secrets(repository)
      for (const secret of Object.values(found)) this.#redactor.add(secret)
      return found
    }
    const proxies = async () => {
      const found = await parts.proxies()
      for (const value of Object.values(found)) {
        for (const secret of parseProxy(value)?.secrets ?? []) this.#redactor.add(secret)
      }
      return found
    }
    return { ...parts, secrets, proxies }
  }

  async #afterError(error: ConveyorError): Promise<Next> {
    const { retryDelays, parts } = this.#options
    const { store } = parts
    const { id, attempt, refs } = this.#build
    if (this.#now.aborted) {
      await this.#note('the worker is shutting down: the build is given back, and will be tried again')
      await store.release(id, attempt, { counts: false })
      return { againIn: 0 }
    }
    if (error.kind === 'cancelled') return 'superseded'
    await this.#note(`error: ${error.advice}`)
    const turn = turnOf(this.#build)
    const delay = retryDelays[turn - 1]
    if (error.retryable && delay !== undefined) {
      const againIn = Math.max(delay, askedFor(error))
      await this.#note(`trying again in ${againIn} s`)
      return (await store.release(id, attempt)) ? { againIn } : 'superseded'
    }
    if (error.retryable) await this.#note(`giving up after ${count(turn, 'attempt')}`)
    const finish = await store.finish(id, attempt, refs.length, {
      state: 'failed',
      error: this.#redactor.redact(error.advice),
      errorKind: error.kind,
    })
    return finish === 'superseded' ? 'superseded' : 'ended'
  }

  /** A line of our own in the build's log; in the worker's, where the build's cannot be written. */
  async #note(line: string): Promise<void> {
    try {
      if (!this.#log) throw new Error('it could not be opened')
      await linesTo(this.#log)('', line)
    } catch (error) {
      const why = (error as Error).message
      this.#options.log(`${shortName(this.#build)}: ${line} (not in the build's log: ${why})`)
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

  /**
   * Ends the attempt when the build is another worker's now; a queue that does not answer may answer again.
   * Where the queue may deliver a job twice, the store says whose the build is: that is kept also when the
   * message is not ours any more.
   */
  async #keepLease(): Promise<void> {
    const { queue, parts, log } = this.#options
    const { id, attempt } = this.#build
    const hold = async () => {
      if (!(await parts.store.hold(id, attempt, queue.leaseSeconds))) throw taken(this.#build)
    }
    const kept = await Promise.allSettled([
      this.#job.extend(queue.leaseSeconds),
      queue.duplicates && !this.#over && hold(),
    ])
    if (this.#over) return
    for (const one of kept) {
      if (one.status === 'fulfilled') continue
      const error = toConveyorError(one.reason, 'it could not be extended')
      log(`lease of ${shortName(this.#build)}: ${error.message}`)
      if (!error.retryable) this.#end.abort(taken(this.#build))
    }
  }
}

/** A build that has begun for so long, in milliseconds, is said to have. */
const AT_ONCE_MS = 1000

const SUSPECT = 'it was cut off with a process that ran others, too, and one of them may have ended that'

/** Which of the attempts that count it is. */
function turnOf({ attempt, spared = 0 }: Build): number {
  return attempt - spared
}

/** A part that asks for a longer pause than this, in seconds, is tried again all the same. */
const LONGEST_PAUSE = 1800

/** For how many seconds the part that did not do its work asks to be left alone. */
function askedFor({ retryAfterMs = 0 }: ConveyorError): number {
  return Math.min(Math.ceil(retryAfterMs / 1000), LONGEST_PAUSE)
}

function header(build: Build, attempts: number): string[] {
  const refs = build.refs.map((ref) => `${ref.kind} ${ref.name}`).join(', ')
  const cache = build.cache ? '' : ', no cache'
  const what = `building ${build.repository}@${build.sha}${refs && ` (${refs})`}${cache}`
  const turn = turnOf(build)
  return turn > 1 ? ['', what, `attempt ${turn} of ${attempts}`] : [what]
}

function tookTooLong(build: Build, ms: number): ConveyorError {
  const limit = ms < 120_000 ? `${ms / 1000} s` : `${+(ms / 60_000).toFixed(1)} minutes`
  return new ConveyorError('timeout', `building ${shortName(build)} took longer than ${limit}`, {
    hint: 'Look in the log for the step that took so long, or raise --timeout (TIMEOUT)',
  })
}

function taken(build: Build): ConveyorError {
  return new ConveyorError('cancelled', `another worker has taken over ${shortName(build)}`)
}

/** Every earlier attempt is used up, and the last of them never came to its end. */
function cutOff(build: Build): ConveyorError {
  const attempts = count(turnOf(build) - 1, 'attempt')
  return new ConveyorError(
    'unavailable',
    `building ${shortName(build)} was given up after ${attempts}: the last was cut off with the process that ran it`,
    {
      hint: "Look in Conveyor's own log and the system's (out of memory?) for what ended it, then push again",
      retryable: false,
    },
  )
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
