import type { Build, BuildRef, Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { compareByArrival, compareByChain, type Push } from '../../core/push-order.ts'
import type { History } from '../../source/source.ts'
import type { Settle } from '../../store/build-store.ts'

/** The answers of the git server are waited for so long, in all, while other tags of the image wait. */
const LIMIT_MS = 60_000

interface Parts {
  history: History
  /** Told what could not be found out, one line at a time. */
  say: (line: string) => Promise<void>
}

/**
 * Settles doubts between pushes of a repository by the git server: see the table in push-order.ts. A server that
 * cannot be asked settles nothing, and is said to.
 */
export function settleBy(repository: string, { history, say }: Parts, signal: AbortSignal): Settle {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
  /** Null where the server cannot tell. */
  const ask = async <T>(question: () => Promise<T>): Promise<T | null> => {
    try {
      return await question()
    } catch (error) {
      signal.throwIfAborted()
      const why = error instanceof ConveyorError ? error.message : String(error)
      await say(`warning: which of two pushes is newer cannot be asked: ${why}`)
      return null
    }
  }
  const contains = (head: string, sha: string) => ask(() => history.contains(repository, head, sha, limited))

  return async (candidate: Push, recorded: Push, others: Push[]): Promise<boolean> => {
    const { ref, sha } = candidate
    const head = await ask(() => history.head(repository, ref, limited))
    if (head?.sha === sha) return true
    if (head && head.sha === recorded.sha) return false
    const chained = compareByChain(candidate, recorded, others)
    if (chained !== 'doubt') return chained === 'newer'
    // Without the head, the server was asked in vain already.
    if (head && sha !== null && recorded.sha !== null) {
      if (await contains(recorded.sha, sha)) return false
      if (await contains(sha, recorded.sha)) return true
    }
    return compareByArrival(candidate, recorded) === 'newer'
  }
}

/** The refs of a build that may move tags, and why the others may not. */
export interface ProvenRefs {
  refs: BuildRef[]
  withheld: { ref: BuildRef; reason: string }[]
}

/**
 * Leaves out refs that anybody may have claimed for the commit, and that do not contain it.
 * @throws ConveyorError `unavailable` when the git server cannot be asked now
 */
export async function provenRefs(build: Build, history: History, signal: AbortSignal): Promise<ProvenRefs> {
  const proven: ProvenRefs = { refs: [], withheld: [] }
  for (const ref of build.refs) {
    const reason = ref.unproven ? await whyNotIn(build, ref, history, signal) : null
    if (reason === null) proven.refs.push(ref)
    else proven.withheld.push({ ref, reason })
  }
  return proven
}

/**
 * Why a commit is none of a ref's: a clause; null when the ref contains it.
 * @throws ConveyorError `unavailable` when the git server cannot be asked now
 */
async function whyNotIn(
  build: { repository: string; sha: string },
  ref: Ref,
  history: History,
  signal: AbortSignal,
): Promise<string | null> {
  const found = await whereIs(build, ref, history, signal)
  return typeof found === 'string' ? found : null
}

/**
 * The ref, or without one the default branch, if its history contains a commit; else why not, as a clause.
 * @throws ConveyorError `unavailable` when the git server cannot be asked now
 */
export async function whereIs(
  { repository, sha }: { repository: string; sha: string },
  ref: Ref | null,
  history: History,
  signal?: AbortSignal,
): Promise<Ref | string> {
  const kind = ref?.kind === 'tag' ? 'git tag' : 'branch'
  const called = ref === null ? 'default branch' : `${kind} ${ref.name}`
  try {
    const head = await history.head(repository, ref, signal)
    if (head === null) return `${repository} has no ${called}`
    if (head.sha === sha || (await history.contains(repository, head.sha, sha, signal))) return head.ref
    return `the ${called} of ${repository} does not contain ${sha.slice(0, 7)}`
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof ConveyorError) || error.retryable) throw error
    return `whether the ${called} contains ${sha.slice(0, 7)} cannot be asked: ${error.message}`
  }
}
