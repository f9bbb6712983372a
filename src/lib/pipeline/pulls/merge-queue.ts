import { isEnded, type Ref } from '../../core/build.ts'
import { ConflictError } from '../../core/errors.ts'
import { isMergeQueue } from '../../core/validate.ts'
import { type CancelParts, cancelBuild } from '../control/cancel.ts'

/**
 * Cancels the build of a merge queue's commit that will not be merged, unless somebody else wants it, too.
 * @returns what was done, or why nothing was
 */
export async function cancelGroup(
  { repository, sha, ref, reason }: { repository: string; sha: string; ref: Ref; reason: string },
  parts: CancelParts,
): Promise<{ done: string } | { ignored: string }> {
  const name = `${ref.name} is gone (${reason})`
  if (reason === 'merged') return { ignored: `${name}: its build goes on for the branch` }
  const build = await parts.store.newest(repository, sha)
  if (!build || isEnded(build.state)) return { ignored: `${name}: nothing is being built for it` }
  // In lane 0, somebody has asked for it, whoever was first.
  const others = build.refs.some((one) => !isMergeQueue(one)) || build.turn.lane === 0
  if (others || build.refs.some(({ name }) => name !== ref.name))
    return { ignored: `${name}: build ${build.id} has been requested for something else, too` }
  try {
    await cancelBuild(build.id, `the merge queue (${reason})`, parts)
    return { done: `build ${build.id} is cancelled: ${name}` }
  } catch (error) {
    // It has ended meanwhile.
    if (error instanceof ConflictError) return { ignored: `${name}: ${error.message}` }
    throw error
  }
}
