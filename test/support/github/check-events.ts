import { webhookExamples } from './push.ts'
import { githubSchema } from './schema.ts'

type Json = Record<string, unknown>

/** What somebody did with a check run, or with all checks of a commit. */
export interface CheckEventFacts {
  repository: string
  sha: string
  /** The build of the run; absent for all checks of the commit. */
  buildId?: string
  /** The button that was pressed; absent for "Re-run". */
  button?: string
  /** Default `ada`. */
  sender?: string
}

/** The event and payload that GitHub sends for it, made from its published example. */
export async function checkEvent(facts: CheckEventFacts): Promise<{ event: string; payload: Json }> {
  const { repository, sha, buildId, button, sender = 'ada' } = facts
  const event = buildId === undefined ? 'check_suite' : 'check_run'
  const action = button === undefined ? 'rerequested' : 'requested_action'
  const events = await webhookExamples()
  // GitHub's example of check_run.rerequested is older than its schema.
  const like = event === 'check_run' && button === undefined ? 'created' : action
  const example = events.find(({ name }) => name === event)?.examples.find((one) => one.action === like)
  if (!example) throw new Error(`GitHub has no example of ${event}.${action}`)
  const payload = structuredClone(example) as Json & Record<'repository' | 'sender', Json>
  Object.assign(payload, { action })
  Object.assign(payload.repository, { full_name: repository, name: repository.split('/')[1] })
  Object.assign(payload.sender, { login: sender })
  Object.assign(payload[event] as Json, {
    head_sha: sha,
    ...(buildId !== undefined && { external_id: buildId }),
  })
  if (button !== undefined) payload.requested_action = { identifier: button }
  const schema = `webhook-${event}-${action}`.replaceAll('_', '-')
  const problems = (await githubSchema()).checkPayload(schema, payload)
  if (problems.length > 0) throw new Error(`not what GitHub would send: ${problems.join('; ')}`)
  return { event, payload }
}
