import type { Build, BuildRef, Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { refTitle } from '../../core/validate.ts'
import type { History } from '../../source/source.ts'

/** The refs whose tags a build may move, and why it may not move those of the others. */
interface VerifiedRefs {
  refs: BuildRef[]
  withheld: { ref: BuildRef; reason: string }[]
}

/**
 * Checks refs that came with an unsigned request: their tags move only if they contain the commit.
 * @throws ConveyorError `unavailable` if the git server does not answer
 */
export async function verifiedRefs(
  build: Build,
  history: History,
  signal: AbortSignal,
): Promise<VerifiedRefs> {
  const verified: VerifiedRefs = { refs: [], withheld: [] }
  for (const ref of build.refs) {
    const found = ref.unproven ? await containingRef(build, ref, history, signal) : ref
    if (typeof found === 'string') verified.withheld.push({ ref, reason: found })
    else verified.refs.push(ref)
  }
  return verified
}

/**
 * The ref (without one, the default branch) if its history contains a commit; otherwise the reason, as a clause.
 * @throws ConveyorError `unavailable` if the git server does not answer
 */
export async function containingRef(
  { repository, sha }: { repository: string; sha: string },
  ref: Ref | null,
  history: History,
  signal?: AbortSignal,
): Promise<Ref | string> {
  const name = ref === null ? 'default branch' : refTitle(ref)
  try {
    const head = await history.head(repository, ref, signal)
    if (head === null) return `${repository} has no ${name}`
    if (head.sha === sha || (await history.contains(repository, head.sha, sha, signal))) return head.ref
    return `the ${name} of ${repository} does not contain ${sha.slice(0, 7)}`
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof ConveyorError) || error.retryable) throw error
    return `could not check whether the ${name} contains ${sha.slice(0, 7)}: ${error.message}`
  }
}
