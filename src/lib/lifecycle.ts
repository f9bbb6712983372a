import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A signal that is aborted by the first SIGINT or SIGTERM. The second ends the process at once, for
 * whoever does not want to wait for an orderly end.
 */
export function untilStopped(): AbortSignal {
  const stop = new AbortController()
  const onSignal = (name: NodeJS.Signals) => {
    if (stop.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143)
    stop.abort()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return stop.signal
}

/** What has been opened, and how it is closed: in reverse order, each exactly once, also if one fails. */
export class Releaser implements AsyncDisposable {
  readonly #releases: { name: string; release: () => Promise<void> | void }[] = []
  readonly #log: (line: string) => void

  /** @param log told of what could not be closed */
  constructor(log: (line: string) => void) {
    this.#log = log
  }

  /** Notes how to close `value`, and gives it back. */
  add<T>(name: string, value: T, release: (value: T) => Promise<void> | void): T {
    this.#releases.push({ name, release: () => release(value) })
    return value
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let next = this.#releases.pop(); next; next = this.#releases.pop()) {
      try {
        await next.release()
      } catch (error) {
        this.#log(`closing the ${next.name}: ${(error as Error).message}`)
      }
    }
  }
}

/** Resolves with `work`, or after `ms` milliseconds without it. */
export async function atMost(ms: number, work: Promise<void>): Promise<void> {
  const timer = new AbortController()
  await Promise.race([work, sleep(ms, undefined, { signal: timer.signal, ref: false })])
  timer.abort()
}
