import { type CommitInfo, commitInfo, mayUseCache, type PushFacts } from '../../../core/build.ts'
import { parseRef, validRefName, validRepository, validSha } from '../../../core/validate.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { type Fields, show, validDelivery } from './fields.ts'

/** A push of a branch or a git tag: its head commit is built. */
export const pushEvent: WebhookEvent = {
  fields: {
    ...{ ref: true, before: true, after: true, deleted: true },
    head_commit: { id: true, tree_id: true, message: true, author: { name: true, username: true } },
    sender: { login: true },
    repository: { full_name: true, fork: true, default_branch: true, pushed_at: true },
  },
  parse(push, delivery) {
    const ref = push.text('ref')
    const repository = push.object('repository')
    if (push.flag('deleted')) return ignored(`${show(ref)} was deleted: nothing to build`)
    if (repository.flag('fork')) return ignored('the repository is a fork: forks are never built')
    const parsed = push.valid('ref', parseRef)
    if (!parsed) return ignored(`${show(ref)} is neither a branch nor a tag`)
    const head = push.objectOrNull('head_commit')
    if (!head) return ignored(`${show(ref)} has no head commit: nothing to build`)

    return {
      kind: 'build',
      message: head.text('message'),
      request: {
        repository: repository.valid('full_name', validRepository),
        // Not `after`: for an annotated tag that is the id of the tag object.
        sha: head.valid('id', validSha),
        ref: parsed,
        defaultBranch: repository.valid('default_branch', validRefName),
        ...(parsed.kind === 'branch' && treeOf(head)),
        ...factsOf(push, repository),
        commit: commitOf(push, head),
        cache: mayUseCache(head.text('message')),
        source: { kind: 'webhook', delivery: validDelivery(delivery) },
      },
    }
  },
}

/**
 * Optional. Trusted only for branches: in GitHub's own example of a pushed tag, the tree is not that of the
 * commit.
 */
function treeOf(commit: Fields): { tree?: string } {
  const tree = commit.validOrNull('tree_id', validSha)
  return tree === null ? {} : { tree }
}

/** For people to read: nothing of it but the message has to be there. */
export function commitOf(payload: Fields, head: Fields): CommitInfo {
  const author = head.anyObject('author')
  const login = author.anyText('username') ?? payload.anyObject('sender').anyText('login')
  return commitInfo(head.text('message'), author.anyText('name'), login)
}

/** What orders the push among others. Without it, the order is decided by arrival, or by the git server. */
function factsOf(push: Fields, repository: Fields): { push?: PushFacts } {
  if (push.textOrNull('before') === null || push.textOrNull('after') === null) return {}
  const pushedAt = repository.secondsOrNull('pushed_at')
  return { push: { before: push.valid('before', validSha), after: push.valid('after', validSha), pushedAt } }
}
