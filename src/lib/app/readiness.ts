import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../core/errors.ts'
import type { Readiness } from '../server/options.ts'

export interface ReadinessOptions {
  /** What builds need, by name. Each resolves when it works. @throws what is wrong */
  parts: Record<string, () => Promise<unknown>>
  /** Told when a part fails, and when it works again, one line at a time. */
  log: (line: string) => void
  /** How long a part may take to answer, in milliseconds. */
  limitMs?: number
  /** For so long an answer is not asked for again, whoever wants to know it. */
  freshMs?: number
}

/** Asks the parts side by side, once for all who want to know it at about the same time. Never rejects. */
export function readiness({
  parts,
  log,
  limitMs = 4000,
  freshMs = 2000,
}: ReadinessOptions): () => Promise<Readiness> {
  const failing = new Set<string>()
  let asked: { at: number; answer: Promise<Readiness> } | undefined

  async function ask(name: string, works: () => Promise<unknown>): Promise<'ok' | 'unavailable'> {
    const over = new AbortController()
    const { signal } = over
    const late = sleep(limitMs, undefined, { signal }).then(() => {
      throw new Error(`no answer in ${limitMs / 1000} s`)
    })
    try {
      await Promise.race([works(), late])
      if (failing.delete(name)) log(`ready: the ${name} works again`)
      return 'ok'
    } catch (error) {
      if (!failing.has(name)) log(`not ready: ${name}: ${toConveyorError(error, 'it does not work').advice}`)
      failing.add(name)
      return 'unavailable'
    } finally {
      over.abort()
      late.catch(() => {}) // aborted just now
    }
  }

  async function askAll(): Promise<Readiness> {
    const answers = await Promise.all(
      Object.entries(parts).map(async ([name, works]) => [name, await ask(name, works)] as const),
    )
    return { ready: answers.every(([, answer]) => answer === 'ok'), parts: Object.fromEntries(answers) }
  }

  return () => {
    if (!asked || performance.now() - asked.at > freshMs) {
      asked = { at: performance.now(), answer: askAll() }
    }
    return asked.answer
  }
}
