import { mayUseCache } from '../../../core/build.ts'
import { parseRef, validRefName, validRepository, validSha } from '../../../core/validate.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { show, validDelivery } from './fields.ts'
import { commitOf } from './push.ts'

/** A merge queue wants a commit to be checked, or does not need it any more. */
export const mergeGroupEvent: WebhookEvent = {
  fields: {
    ...{ action: true, reason: true },
    merge_group: {
      ...{ head_sha: true, head_ref: true },
      head_commit: { id: true, tree_id: true, message: true, author: { name: true, username: true } },
    },
    repository: { full_name: true, fork: true, default_branch: true },
    sender: { login: true },
  },
  parse(payload, delivery) {
    const action = payload.text('action')
    const group = payload.object('merge_group')
    const repository = payload.object('repository')
    if (repository.flag('fork')) return ignored('the repository is a fork: forks are never built')
    const name = repository.valid('full_name', validRepository)
    const sha = group.valid('head_sha', validSha)
    const ref = group.valid('head_ref', parseRef)
    if (ref?.kind !== 'branch') return ignored(`${show(group.text('head_ref'))} is not a branch`)
    if (action === 'destroyed') {
      const reason = payload.anyText('reason') ?? 'destroyed'
      return { kind: 'merge_group', action: 'destroyed', repository: name, sha, ref, reason }
    }
    if (action !== 'checks_requested') return ignored(`a merge group was ${show(action)}`, { quiet: true })
    const head = group.object('head_commit')
    const message = head.text('message')
    // In GitHub's own example, it is that of another commit.
    const tree = head.text('id').toLowerCase() === sha ? head.validOrNull('tree_id', validSha) : null
    return {
      ...{ kind: 'merge_group', action: 'checks_requested', message },
      request: {
        ...{ repository: name, sha, ref, ...(tree !== null && { tree }) },
        defaultBranch: repository.valid('default_branch', validRefName),
        commit: commitOf(payload, head),
        cache: mayUseCache(message),
        source: { kind: 'webhook', delivery: validDelivery(delivery) },
      },
    }
  },
}
