import type { BuildRequest } from '../../../core/build.ts'
import { ConveyorError } from '../../../core/errors.ts'
import type { ServerOptions } from '../../options.ts'

/**
 * Turns an unsigned push into a request that can be trusted. Anyone can forge it, so only its repository and branch
 * are used: the forge supplies the head of the branch, and the name of the default branch.
 * @returns the request, or why the push is ignored
 * @throws ConveyorError `unavailable`, `unauthorized` when the lookup fails
 */
export async function verifyUnsignedPush(
  push: BuildRequest,
  { store, forge }: Pick<ServerOptions, 'store' | 'forge'>,
): Promise<{ ignored: string } | BuildRequest> {
  const { repository, ref, source } = push
  if (ref?.kind !== 'branch') {
    return {
      ignored: 'unsigned pushes are accepted only for branches; set a secret for the server and the webhook',
    }
  }
  // Before the lookup, so that a push in the meantime counts as newer.
  const sequence = await store.reserveSequence()
  try {
    const [sha, defaultBranch] = await Promise.all([
      forge.branchHead(repository, ref.name),
      forge.defaultBranch(repository),
    ])
    // If the branch has moved, the push's [docker nocache] belonged to another commit. It counts once: others could have
    // the same commit built from scratch again and again.
    const cache = push.cache || sha !== push.sha || (await store.newest(repository, sha)) !== null
    return { repository, sha, ref, defaultBranch, cache, source, sequence }
  } catch (error) {
    if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
    return { ignored: `the push is unsigned and could not be verified: ${error.message}` }
  }
}
