import { setTimeout as sleep } from 'node:timers/promises'

export interface RetryOptions {
  /**
   * Waits before each retry, in milliseconds; there is one retry for each entry. A function computes the wait from
   * the number of failed attempts (1, 2, ...) and the last error, and gives up by returning undefined.
   */
  delays: readonly number[] | ((failures: number, error: unknown) => number | undefined)
  /** Spreads waits at random, from `1 - jitter` to `1 + jitter` times their length, so that clients don't retry in step. */
  jitter?: number
  /** Whether an error is worth another attempt. Default: every error is. */
  isRetryable?: (error: unknown) => boolean
  /** Ends the wait for the next attempt. A running attempt is not affected. */
  signal?: AbortSignal | undefined
  /** Called before each wait, for logs. */
  onRetry?: (error: unknown, delayMs: number) => void | Promise<void>
  /** Replaces the timer. Default: waits, and rejects once the signal is aborted. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<unknown>
}

/**
 * Attempts `work` until it succeeds, fails with an error that is not retryable, or is out of retries.
 * @throws the last error of `work`, or the signal's reason if that is aborted during a wait
 */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { delays, jitter = 0, isRetryable = () => true, signal, onRetry, sleep = timer } = options
  for (let failures = 1; ; failures++) {
    try {
      return await work()
    } catch (error) {
      const delay = isRetryable(error) ? delayAfter(delays, failures, error) : undefined
      if (delay === undefined) throw error
      const delayMs = delay * (1 + jitter * (2 * Math.random() - 1))
      await onRetry?.(error, delayMs)
      await sleep(delayMs, signal).catch((failed: unknown) => {
        throw signal?.aborted ? signal.reason : failed
      })
    }
  }
}

/** Waits that double from `first` up to `longest`, in milliseconds, for as long as retries make sense. */
export function exponential(first: number, longest: number): (failures: number) => number {
  return (failures) => Math.min(first * 2 ** (failures - 1), longest)
}

function delayAfter(delays: RetryOptions['delays'], failures: number, error: unknown): number | undefined {
  return typeof delays === 'function' ? delays(failures, error) : delays[failures - 1]
}

async function timer(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, signal && { signal })
}
