import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../core/errors.ts'
import type { Readiness } from '../server/operations.ts'
import type { Adapters } from './setup.ts'

export interface ReadinessOptions {
  /** Checks of the components that builds need, by name. Each resolves if the component works. @throws what is wrong */
  parts: Record<string, () => Promise<unknown>>
  /** Receives a line when a component fails, and when it has recovered. */
  log: (line: string) => void
  /** Timeout of a check, in milliseconds. */
  limitMs?: number
  /** How long a result is reused, in milliseconds. */
  freshMs?: number
}

/** The components that builds need: store and queue, and the engine if builds run in this process. */
export function readinessChecks(
  { parts, queue, builderAnswers }: Pick<Adapters, 'parts' | 'queue' | 'builderAnswers'>,
  role: { builds: boolean },
): ReadinessOptions['parts'] {
  return {
    store: () => parts.store.check(),
    queue: async () => queue.depth?.(),
    ...(role.builds && { engine: builderAnswers }),
  }
}

/** Checks the components in parallel; callers at about the same time share a result. Never rejects. */
export function readiness({
  parts,
  log,
  limitMs = 4000,
  freshMs = 2000,
}: ReadinessOptions): () => Promise<Readiness> {
  const failing = new Set<string>()
  let latest: { at: number; answer: Promise<Readiness> } | undefined

  async function check(name: string, works: () => Promise<unknown>): Promise<'ok' | 'unavailable'> {
    const over = new AbortController()
    const { signal } = over
    const late = sleep(limitMs, undefined, { signal }).then(() => {
      throw new Error(`no response within ${limitMs / 1000} s`)
    })
    try {
      await Promise.race([works(), late])
      if (failing.delete(name)) log(`ready: ${name} has recovered`)
      return 'ok'
    } catch (error) {
      if (!failing.has(name)) log(`not ready: ${name}: ${toConveyorError(error, 'check failed').advice}`)
      failing.add(name)
      return 'unavailable'
    } finally {
      over.abort()
      late.catch(() => {}) // aborted by the line above
    }
  }

  async function checkAll(): Promise<Readiness> {
    const answers = await Promise.all(
      Object.entries(parts).map(async ([name, works]) => [name, await check(name, works)] as const),
    )
    return { ready: answers.every(([, answer]) => answer === 'ok'), parts: Object.fromEntries(answers) }
  }

  return () => {
    if (!latest || performance.now() - latest.at > freshMs) {
      latest = { at: performance.now(), answer: checkAll() }
    }
    return latest.answer
  }
}
