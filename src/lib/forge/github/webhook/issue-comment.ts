import { validRepository } from '../../../core/validate.ts'
import { validLogin } from '../texts.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { validDelivery } from './fields.ts'

/**
 * A line `/build SHA`, with at least the seven digits that GitHub shows. Anybody may write comments: no two parts of the
 * pattern match the same characters, so that it takes no longer for a line of spaces.
 */
const COMMAND = /^[ \t]*\/build(?:[ \t]+(\S+))?[ \t]*\r?$/m
const SHORT_SHA = /^[0-9a-f]{7,64}$/i

/** A comment on a pull request that says `/build SHA`. */
export const issueCommentEvent: WebhookEvent = {
  fields: {
    action: true,
    issue: { number: true, pull_request: { url: true } },
    comment: { body: true, user: { login: true } },
    repository: { full_name: true, fork: true },
  },
  parse(payload, delivery) {
    const quiet = { quiet: true }
    const issue = payload.object('issue')
    // Not an edited one: it could be changed after somebody else has quoted it.
    if (payload.text('action') !== 'created' || issue.anyObject('pull_request').anyText('url') === null)
      return ignored('not a new comment on a pull request', quiet)
    const comment = payload.object('comment')
    const command = COMMAND.exec(comment.anyText('body') ?? '')
    if (!command) return ignored('the comment has no line /build SHA', quiet)
    const repository = payload.object('repository')
    if (repository.flag('fork')) return ignored('the repository is a fork: forks are never built')
    const [, sha = ''] = command
    if (!SHORT_SHA.test(sha))
      return ignored('/build needs at least seven digits of the commit to build: /build 0123456')
    return {
      kind: 'command',
      repository: repository.valid('full_name', validRepository),
      pull: issue.number('number'),
      sha: sha.toLowerCase(),
      login: comment.object('user').valid('login', validLogin),
      delivery: validDelivery(delivery),
    }
  },
}
