import { notAllowed } from '../../../core/allowed-repositories.ts'
import { requestBuild } from '../../../pipeline/accept.ts'
import { joinPulls } from '../../../pipeline/pulls/pulls.ts'
import type { Handler } from './handler.ts'
import { verifyUnsignedPush } from './unsigned-push.ts'

/** Builds the commit that was pushed. */
export const handlePush: Handler<'build'> = async ({ request, message }, { signed, options }) => {
  const { repository, ref } = request
  if (options.isAllowed?.(repository) === false) return { ignored: notAllowed(repository) }
  const excluded = ref && options.policy?.whyNot({ repository, ref, message })
  if (excluded) return { ignored: excluded }
  const verified = signed ? request : await verifyUnsignedPush(request, options)
  if ('ignored' in verified) return verified
  const supersede = ref && options.policy?.supersedes(ref, verified.defaultBranch)
  const accepted = await requestBuild({ ...verified, ...(supersede && { supersede }) }, options)
  if (ref?.kind === 'branch' && options.pulls !== false) await joinPulls(accepted.build, ref.name, options)
  return accepted
}
