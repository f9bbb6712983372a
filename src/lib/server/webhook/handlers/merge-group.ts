import { notAllowed } from '../../../core/allowed-repositories.ts'
import { requestBuild } from '../../../pipeline/accept.ts'
import { cancelGroup } from '../../../pipeline/pulls/merge-queue.ts'
import { type Handler, UNSIGNED } from './handler.ts'

/** Builds the commit that a merge queue waits for, and cancels it if the queue does not wait any more. */
export const handleMergeGroup: Handler<'merge_group'> = async (event, { signed, options }) => {
  if (!signed) return UNSIGNED
  const { repository, sha, ref } = event.action === 'destroyed' ? event : event.request
  if (options.isAllowed?.(repository) === false) return { ignored: notAllowed(repository) }
  if (event.action === 'destroyed') return cancelGroup(event, options)
  const { request, message } = event
  const excluded = ref && options.policy?.whyNot({ repository, ref, message })
  if (excluded) return { ignored: excluded }
  // GitHub also sends the push of the queue's branch, before or after this.
  const known = await options.store.newest(repository, sha)
  const isSame = known?.state === 'succeeded' && known.refs.some(({ name }) => name === ref?.name)
  if (isSame) return { build: known, queued: true, outcome: 'redelivered' }
  return requestBuild(request, options)
}
