import { notAllowed } from '../../../core/allowed-repositories.ts'
import { buildPull, notePull } from '../../../pipeline/pulls/pulls.ts'
import { type Handler, UNSIGNED } from './handler.ts'

/** Tags the image of a pull request's head; remembers which are open. */
export const handlePull: Handler<'pull'> = async ({ action, pull, ...facts }, { signed, options }) => {
  if (!signed) return UNSIGNED
  if (options.isAllowed?.(pull.repository) === false) return { ignored: notAllowed(pull.repository) }
  if (options.pulls === false) return { ignored: 'pull requests are switched off by --pulls' }
  const outdated = await notePull(pull, options.store)
  if (outdated !== null) return { ignored: outdated }
  if (action === 'closed' || !pull.open) {
    options.onPullClosed?.()
    return { ignored: `pull request #${pull.number} is closed`, quiet: true }
  }
  return buildPull(pull, facts, options)
}
