import { createHash } from 'node:crypto'
import { notAllowed } from '../../../core/allowed-repositories.ts'
import { type Build, shortName } from '../../../core/build.ts'
import { ConflictError } from '../../../core/errors.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { CheckRequest } from '../../../forge/forge.ts'
import { ACTIONS } from '../../../pipeline/checks/check-run.ts'
import { cancelBuild } from '../../../pipeline/control/cancel.ts'
import { retryBuild } from '../../../pipeline/control/retry.ts'
import type { IdempotencyKey } from '../../../store/build-list.ts'
import type { ServerOptions } from '../../options.ts'
import type { Handler } from './handler.ts'

/**
 * Builds again, or cancels, as somebody wants with a check run: GitHub offers that to those who may write to the repository.
 */
export const handleCheck: Handler<'check'> = async ({ request }, { signed, options }) => {
  const { repository, action, by, delivery } = request
  if (!signed) return { ignored: 'checks are handled only if the webhook is signed: set a secret for it' }
  if (options.isAllowed?.(repository) === false) return { ignored: notAllowed(repository) }
  const build = await buildOf(request, options.store)
  if (!build) return { ignored: 'no build of this commit belongs to it' }
  const rebuild = (cache?: boolean) => retryBuild(build.id, { cache, key: keyOf(build, delivery) }, options)
  try {
    if (action === 'rerun') return await rebuild()
    if (action.button === ACTIONS.withoutCache) return await rebuild(false)
    if (action.button !== ACTIONS.cancel) return { ignored: 'the check run has no such button' }
    await cancelBuild(build.id, by, options)
    return { done: `build ${build.id} of ${shortName(build)} is cancelled` }
  } catch (error) {
    // It has ended meanwhile, or runs again already.
    if (error instanceof ConflictError) return { ignored: error.message }
    throw error
  }
}

/** The build that a check run stands for, if it is one of that commit; for all checks of a commit, its newest build. */
async function buildOf(
  { repository, sha, buildId }: CheckRequest,
  store: ServerOptions['store'],
): Promise<Build | null> {
  const build = buildId === null ? await store.newest(repository, sha) : await store.get(buildId)
  if (build?.sha !== sha || repositoryKey(build.repository) !== repositoryKey(repository)) return null
  return build
}

/** A delivery that is repeated builds nothing again. */
function keyOf(build: Build, delivery: string): IdempotencyKey {
  const body = createHash('sha256').update(build.id).digest('hex')
  return { key: `check:${delivery}`, body }
}
