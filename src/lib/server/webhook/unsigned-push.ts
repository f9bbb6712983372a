import type { BuildRequest } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { ServerOptions } from '../options.ts'

/**
 * What to build for a push that nobody has signed: anybody can have made it up, so that it only says where to
 * look. The forge says which commit the branch is at, and which branch is the default one.
 * @returns why nothing is built, or the request
 * @throws ConveyorError `unavailable`, `unauthorized` when the forge cannot be asked
 */
export async function asForgeHasIt(
  push: BuildRequest,
  { store, forge }: Pick<ServerOptions, 'store' | 'forge'>,
): Promise<{ ignored: string } | BuildRequest> {
  const { repository, ref, source } = push
  if (ref?.kind !== 'branch') {
    return { ignored: 'not signed, and only branches are looked up: give server and webhook a secret' }
  }
  // Before the look-up, so that a push meanwhile counts as newer.
  const sequence = await store.reserveSequence()
  try {
    const [sha, defaultBranch] = await Promise.all([
      forge.branchHead(repository, ref.name),
      forge.defaultBranch(repository),
    ])
    // The message was of another commit if the branch is elsewhere.
    return { repository, sha, ref, defaultBranch, cache: push.cache || sha !== push.sha, source, sequence }
  } catch (error) {
    if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
    return { ignored: `not signed, and the forge does not know of it: ${error.message}` }
  }
}
