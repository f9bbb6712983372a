import { changedPull, type TestPull } from './pulls.ts'
import { webhookExamples } from './push.ts'
import { githubSchema } from './schema.ts'

type Json = Record<string, unknown>
/** An event and its payload, as GitHub sends them. */
export interface MadeEvent {
  event: string
  payload: Json
}

/** A pull request was opened, pushed to (`synchronize`), closed, or opened again. */
export async function pullEvent(
  action: 'opened' | 'synchronize' | 'closed' | 'reopened',
  { before, ...pull }: TestPull & { before?: string },
): Promise<MadeEvent> {
  const example = await exampleOf('pull_request', action)
  const changed = changedPull(example.pull_request as Json, pull)
  return made('pull_request', action, pull.repository, {
    ...example,
    number: pull.number,
    pull_request: action === 'closed' ? { ...changed, state: 'closed' } : changed,
    ...(action === 'synchronize' && { before: before ?? '0'.repeat(40), after: pull.sha }),
  })
}

/** Somebody comments on a pull request, or on an issue. */
export async function commentEvent(facts: {
  repository: string
  number: number
  body: string
  login: string
  isIssue?: boolean
  action?: 'created' | 'edited'
}): Promise<MadeEvent> {
  const { repository, number, body, login, isIssue = false, action = 'created' } = facts
  const example = await exampleOf('issue_comment', action)
  const comment = example.comment as Json
  const url = `https://api.github.com/repos/${repository}/pulls/${number}`
  const web = `https://github.com/${repository}/pull/${number}`
  const pull_request = { url, html_url: web, diff_url: `${web}.diff`, patch_url: `${web}.patch` }
  return made('issue_comment', action, repository, {
    ...example,
    issue: { ...(example.issue as Json), number, ...(!isIssue && { pull_request }) },
    comment: { ...comment, body, user: { ...(comment.user as Json), login } },
  })
}

/** A merge queue waits for a commit, or does not wait any more. */
export async function mergeGroupEvent(facts: {
  repository: string
  sha: string
  /** `gh-readonly-queue/main/pr-7-SHA` */
  branch: string
  tree?: string | undefined
  message?: string
  /** Present: the group was destroyed. */
  reason?: 'merged' | 'invalidated' | 'dequeued'
}): Promise<MadeEvent> {
  const { repository, sha, branch, reason } = facts
  const example = await exampleOf('merge_group', 'checks_requested')
  const group = example.merge_group as Json
  const head = {
    ...(group.head_commit as Json),
    id: sha,
    ...(facts.tree !== undefined && { tree_id: facts.tree }),
    message: facts.message ?? 'Merge pull request #7',
  }
  const merge_group = { ...group, head_sha: sha, head_ref: `refs/heads/${branch}`, head_commit: head }
  const action = reason === undefined ? 'checks_requested' : 'destroyed'
  return made('merge_group', action, repository, {
    ...example,
    merge_group,
    ...(reason !== undefined && { reason }),
  })
}

async function exampleOf(name: string, action: string): Promise<Json> {
  const schema = await githubSchema()
  const named = `webhook-${name}-${action}`.replaceAll('_', '-')
  const all = (await webhookExamples()).find((one) => one.name === name)?.examples ?? []
  const examples = all.filter((one) => one.action === action)
  // Some examples are older than the schema.
  const example = examples.find((one) => schema.checkPayload(named, one).length === 0) ?? examples[0]
  if (!example) throw new Error(`GitHub has no example of ${name}.${action}`)
  return structuredClone(example)
}

async function made(name: string, action: string, repository: string, payload: Json): Promise<MadeEvent> {
  const about = payload.repository as Json
  const full = {
    ...payload,
    action,
    repository: {
      ...about,
      full_name: repository,
      name: repository.split('/')[1],
      fork: false,
      default_branch: 'main',
      homepage: null,
      has_discussions: false,
    },
  }
  const schema = `webhook-${name}-${action}`.replaceAll('_', '-')
  const problems = (await githubSchema()).checkPayload(schema, full)
  if (problems.length > 0) throw new Error(`not what GitHub would send: ${problems.join('; ')}`)
  return { event: name, payload: full }
}
