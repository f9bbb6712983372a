import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../core/errors.ts'

/** `warning`: builds work, but not all is as it should be. `broken`: without this, none does. */
export type Level = 'ok' | 'warning' | 'broken'

/** What was found of a part, and what to do about it: null where nothing has to be done. */
export interface Finding {
  level: Level
  found: string
  advice: string | null
}

/** One part that a build needs, and how it is asked. A check changes nothing; what it throws is broken. */
export interface Check {
  part: string
  /** @param signal aborted when nobody waits for the answer any more */
  ask(signal: AbortSignal): Finding | Promise<Finding>
}

export interface Diagnosis extends Finding {
  part: string
}

/** How long a part may take to answer, in milliseconds. */
const LIMIT_MS = 5000

export function ok(found: string): Finding {
  return { level: 'ok', found, advice: null }
}

export function warning(found: string, advice: string): Finding {
  return { level: 'warning', found, advice }
}

export function broken(found: string, advice: string): Finding {
  return { level: 'broken', found, advice }
}

/** Asks every part, side by side; the answers are in the order of the checks. Never rejects. */
export function diagnose(checks: readonly Check[], limitMs = LIMIT_MS): Promise<Diagnosis[]> {
  return Promise.all(checks.map(async (check) => ({ part: check.part, ...(await ask(check, limitMs)) })))
}

async function ask(check: Check, limitMs: number): Promise<Finding> {
  const over = new AbortController()
  const { signal } = over
  const late = broken(
    `no answer in ${limitMs / 1000} s`,
    'Check that it runs, and that nothing between here and there drops what is sent',
  )
  try {
    return await Promise.race([check.ask(signal), sleep(limitMs, late, { signal })])
  } catch (thrown) {
    const { message, hint = null } = toConveyorError(thrown, 'it cannot be asked')
    return { level: 'broken', found: message, advice: hint }
  } finally {
    over.abort()
  }
}
