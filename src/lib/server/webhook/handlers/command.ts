import { notAllowed } from '../../../core/allowed-repositories.ts'
import { requestBuild } from '../../../pipeline/accept.ts'
import { approvedRequest, refusal, whyMayNotApprove } from '../../../pipeline/pulls/approve.ts'
import { type Handler, UNSIGNED } from './handler.ts'

/** Builds the commit of a pull request that somebody who may write approves in a comment. */
export const handleCommand: Handler<'command'> = async (command, { signed, options }) => {
  if (!signed) return UNSIGNED
  const { repository, pull, sha, login, delivery } = command
  const { forge } = options
  if (options.isAllowed?.(repository) === false) return { ignored: notAllowed(repository) }
  if (options.pulls === false) return { ignored: 'pull requests are switched off by --pulls' }
  const refused = await whyMayNotApprove(repository, login, forge)
  if (refused !== null) return { ignored: refused }
  try {
    const request = await approvedRequest({ repository, pull, sha, by: login }, options)
    return await requestBuild({ ...request, cache: true, source: { kind: 'webhook', delivery } }, options)
  } catch (error) {
    const reason = refusal(error)
    if (reason === null) throw error
    return { ignored: reason }
  }
}
