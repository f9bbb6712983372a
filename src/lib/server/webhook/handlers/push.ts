import { notAllowed } from '../../../core/allowed-repositories.ts'
import { requestBuild } from '../../../pipeline/accept.ts'
import type { Handler } from './handler.ts'
import { verifyUnsignedPush } from './unsigned-push.ts'

/** Builds the commit that was pushed. */
export const handlePush: Handler<'build'> = async ({ request }, { signed, options }) => {
  const { repository } = request
  if (options.isAllowed?.(repository) === false) return { ignored: notAllowed(repository) }
  const verified = signed ? request : await verifyUnsignedPush(request, options)
  return 'ignored' in verified ? verified : requestBuild(verified, options)
}
