import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../core/errors.ts'

/** `warning`: builds work, but something should be fixed. `broken`: no build works until this is fixed. */
export type Level = 'ok' | 'warning' | 'broken'

/** Result of a check, and what to do about it; null if nothing needs to be done. */
export interface Finding {
  level: Level
  found: string
  advice: string | null
}

/** Checks a component that builds need. A check changes nothing; if it throws, the component is broken. */
export interface Check {
  part: string
  /** @param signal aborted when the result is no longer needed */
  run(signal: AbortSignal): Finding | Promise<Finding>
}

export interface Diagnosis extends Finding {
  part: string
}

export function ok(found: string): Finding {
  return { level: 'ok', found, advice: null }
}

export function warning(found: string, advice: string): Finding {
  return { level: 'warning', found, advice }
}

export function broken(found: string, advice: string): Finding {
  return { level: 'broken', found, advice }
}

/**
 * Runs all checks in parallel; the results are in the order of the checks. Never rejects.
 * @param limitMs how long a check may wait, in milliseconds
 */
export function diagnose(checks: readonly Check[], limitMs: number): Promise<Diagnosis[]> {
  return Promise.all(checks.map(async (check) => ({ part: check.part, ...(await run(check, limitMs)) })))
}

async function run(check: Check, limitMs: number): Promise<Finding> {
  const over = new AbortController()
  const { signal } = over
  const late = broken(
    `no response within ${limitMs / 1000} s`,
    'Check that it is running, and that no firewall drops the connection; if it is slow, set --response-timeout',
  )
  try {
    return await Promise.race([check.run(signal), waited(limitMs, signal).then(() => late)])
  } catch (thrown) {
    const { message, hint = null } = toConveyorError(thrown, 'check failed')
    return { level: 'broken', found: message, advice: hint }
  } finally {
    over.abort()
  }
}

/**
 * Resolves once this process has waited for `ms` milliseconds in all. The time in which it was busy does not count,
 * because it says nothing about the component.
 */
async function waited(ms: number, signal: AbortSignal): Promise<void> {
  const start = performance.eventLoopUtilization()
  for (let left = ms; left > 0; left = ms - performance.eventLoopUtilization(start).idle) {
    await sleep(left, undefined, { signal })
  }
}
