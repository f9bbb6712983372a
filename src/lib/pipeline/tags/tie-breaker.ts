import { ConveyorError } from '../../core/errors.ts'
import { compareByArrival, compareByChain, type Push } from '../../core/push-order.ts'
import type { History } from '../../source/source.ts'
import type { Settle } from '../../store/build-store.ts'

/** Time limit of all requests to the git server together, as the image's other tags wait for them. */
const LIMIT_MS = 60_000

interface Parts {
  history: History
  /** Receives warnings, one line at a time. */
  say: (line: string) => Promise<void>
}

/**
 * Decides by the git server which of two pushes of a repository is newer if they do not say so themselves: see the
 * table in push-order.ts. If the server does not answer, a warning is logged; `before`, `after` and the order of
 * arrival decide.
 */
export function tieBreaker(repository: string, { history, say }: Parts, signal: AbortSignal): Settle {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
  /** Null if the server cannot tell. */
  const query = async <T>(request: () => Promise<T>): Promise<T | null> => {
    try {
      return await request()
    } catch (error) {
      signal.throwIfAborted()
      const why = error instanceof ConveyorError ? error.message : String(error)
      await say(`warning: the git server could not say which of two pushes is newer: ${why}`)
      return null
    }
  }
  const contains = (head: string, sha: string) =>
    query(() => history.contains(repository, head, sha, limited))

  return async (candidate: Push, recorded: Push, others: Push[]): Promise<boolean> => {
    const { ref, sha } = candidate
    const head = await query(() => history.head(repository, ref, limited))
    if (head?.sha === sha) return true
    if (head && head.sha === recorded.sha) return false
    const chained = compareByChain(candidate, recorded, others)
    if (chained !== 'doubt') return chained === 'newer'
    // No head: the server has just failed to answer, or has no such ref.
    if (head && sha !== null && recorded.sha !== null) {
      if (await contains(recorded.sha, sha)) return false
      if (await contains(sha, recorded.sha)) return true
    }
    return compareByArrival(candidate, recorded) === 'newer'
  }
}
