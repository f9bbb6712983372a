import type { Webhook, WebhookParser, WebhookSubject } from '../../forge.ts'
import { bodyJson } from './body.ts'
import { checkRunEvent, checkSuiteEvent } from './checks.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { anyFieldsOf, fieldsOf, show } from './fields.ts'
import { issueCommentEvent } from './issue-comment.ts'
import { mergeGroupEvent } from './merge-group.ts'
import type { FieldSelection } from './partial-json.ts'
import { pullRequestEvent } from './pull-request.ts'
import { pushEvent } from './push.ts'
import { GitHubSignature } from './signature.ts'

/**
 * Parses GitHub's webhooks, without side effects: bytes and headers go in, values come out. Reads only the few
 * fields that are needed, each by name and with its type checked, so a payload with thousands of commits
 * costs no more than a small one.
 */

export const githubWebhooks: WebhookParser = {
  signature: (secret) => new GitHubSignature(secret),
  payload: webhookBody,
  about,
  parse: parseWebhook,
}

/** The events that are handled, by the header X-GitHub-Event. */
const EVENTS: Record<string, WebhookEvent> = {
  push: pushEvent,
  check_run: checkRunEvent,
  check_suite: checkSuiteEvent,
  pull_request: pullRequestEvent,
  merge_group: mergeGroupEvent,
  issue_comment: issueCommentEvent,
}

/** What `about` reads. */
const ABOUT_FIELDS: FieldSelection = { ref: true, after: true, repository: { full_name: true } }

/** The payload of an event in a webhook's body. @throws ConveyorError `invalid`, see bodyJson */
export function webhookBody(
  event: string,
  contentType: string | undefined,
  body: Uint8Array | string,
): Promise<unknown> {
  return bodyJson(contentType, body, eventNamed(event)?.fields ?? ABOUT_FIELDS)
}

function about(payload: unknown): WebhookSubject {
  const fields = anyFieldsOf(payload)
  const number = fields.anyNumber('number') ?? fields.anyObject('issue').anyNumber('number')
  const ref = fields.anyText('ref') ?? fields.anyObject('merge_group').anyText('head_ref')
  const after = fields.anyText('after') ?? fields.anyObject('merge_group').anyText('head_sha')
  return {
    repository: fields.anyObject('repository').anyText('full_name'),
    ref: ref ?? (number === null ? null : `refs/pull/${number}/head`),
    sha: after !== null && /^[0-9a-f]{40,64}$/.test(after) ? after : null,
  }
}

/**
 * Parses a webhook. `event` and `delivery` are the headers X-GitHub-Event and X-GitHub-Delivery.
 * @throws ConveyorError `invalid` naming the field of the payload that is missing or invalid
 */
export function parseWebhook(event: string, delivery: string, payload: unknown): Webhook {
  if (event === 'ping') return ignored('ping: pong')
  const known = eventNamed(event)
  if (!known) return ignored(`event ${show(event)}: it builds nothing`)
  return known.parse(fieldsOf(event, payload), delivery)
}

function eventNamed(event: string): WebhookEvent | undefined {
  return Object.hasOwn(EVENTS, event) ? EVENTS[event] : undefined
}
