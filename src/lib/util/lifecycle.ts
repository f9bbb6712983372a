import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * A signal that is aborted by the first SIGINT or SIGTERM. The second one ends the process at once, without waiting for
 * an orderly shutdown.
 */
export function untilStopped(): AbortSignal {
  const [stop] = signalSteps(1)
  return stop
}

/** Shuts down a process that has work to finish, in two steps. */
export interface Shutdown {
  /** Start nothing new, and end when running work has finished. */
  stop: AbortSignal
  /** Abort running work in an orderly way. Never before `stop`. */
  now: AbortSignal
}

/** The first SIGINT or SIGTERM aborts `stop`, the second `now`; the third ends the process at once. */
export function untilShutDown(): Shutdown {
  const [stop, now] = signalSteps(2)
  return { stop, now }
}

/** Signals that are aborted one by one with each SIGINT or SIGTERM; the next one ends the process. */
function signalSteps(count: 1 | 2): [AbortSignal, AbortSignal] {
  const first = new AbortController()
  const second = new AbortController()
  const steps = [first, second].slice(0, count)
  const onSignal = (name: NodeJS.Signals) => {
    const next = steps.find(({ signal }) => !signal.aborted)
    if (!next) process.exit(name === 'SIGINT' ? 130 : 143)
    next.abort()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return [first.signal, second.signal]
}

/** A shutdown whose second step also follows automatically, `ms` milliseconds after the first. */
export function within(ms: number, { stop, now }: Shutdown): Shutdown {
  const end = new AbortController()
  const begin = () => setTimeout(() => end.abort(), ms).unref()
  if (stop.aborted) begin()
  else stop.addEventListener('abort', begin, { once: true })
  return { stop, now: AbortSignal.any([now, end.signal]) }
}

/** Resolves when a signal is aborted. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

/** Closes what was opened in reverse order, each exactly once, even if closing one fails. */
export class Releaser implements AsyncDisposable {
  readonly #releases: { name: string; release: () => Promise<void> | void }[] = []
  readonly #log: (line: string) => void

  /** @param log called when something could not be closed */
  constructor(log: (line: string) => void) {
    this.#log = log
  }

  /** Registers how to close `value`, and returns it. */
  add<T>(name: string, value: T, release: (value: T) => Promise<void> | void): T {
    this.#releases.push({ name, release: () => release(value) })
    return value
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let next = this.#releases.pop(); next; next = this.#releases.pop()) {
      try {
        await next.release()
      } catch (error) {
        this.#log(`closing the ${next.name} failed: ${(error as Error).message}`)
      }
    }
  }
}

/** Resolves with `work`, or after `ms` milliseconds at the latest. */
export async function atMost(ms: number, work: Promise<void>): Promise<void> {
  const timer = new AbortController()
  await Promise.race([work, sleep(ms, undefined, { signal: timer.signal, ref: false })])
  timer.abort()
}

/** Long after a start, and before somebody looks at the memory of an idle process. */
const AFTER_MS = 10_000

/**
 * Gives back, once, the memory that only the start needed, about 30 MB: V8 keeps it until an idle process allocates as
 * much again, which takes hours. Takes about 70 ms.
 * @returns a function that calls it off
 */
export function returnSpareHeap(): () => void {
  const timer = setTimeout(() => {
    // Node offers this only with a flag, which can be set later, too.
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as (options: object) => void
    collect({ type: 'major', flavor: 'last-resort' })
  }, AFTER_MS)
  timer.unref()
  return () => clearTimeout(timer)
}
