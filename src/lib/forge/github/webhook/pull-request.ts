import { oneLine } from '../../../core/one-line.ts'
import type { PullRequest } from '../../../core/pull-request.ts'
import { validRefName, validRepository, validSha } from '../../../core/validate.ts'
import type { Webhook } from '../../forge.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { type Fields, show, validDelivery } from './fields.ts'

type PullWebhook = Extract<Webhook, { kind: 'pull' }>

/** What matters of the actions: `edited`, `labeled` and others change nothing that is built. */
const ACTIONS: Record<string, PullWebhook['action']> = {
  opened: 'moved',
  reopened: 'moved',
  synchronize: 'moved',
  closed: 'closed',
}

const NOTHING = '0'.repeat(40)

/** A pull request has a new head, or is closed. */
export const pullRequestEvent: WebhookEvent = {
  fields: {
    ...{ action: true, number: true, before: true },
    pull_request: {
      ...{ title: true, state: true, updated_at: true, user: { login: true } },
      head: { sha: true, ref: true, repo: { full_name: true } },
    },
    repository: { full_name: true, fork: true, default_branch: true },
  },
  parse(payload, delivery) {
    const given = payload.text('action')
    const action = Object.hasOwn(ACTIONS, given) ? ACTIONS[given] : undefined
    if (action === undefined)
      return ignored(`a pull request was ${show(given)}: nothing to build`, { quiet: true })
    const repository = payload.object('repository')
    if (repository.flag('fork')) return ignored('the repository is a fork: forks are never built')
    const pull = pullOf(
      repository.valid('full_name', validRepository),
      payload.object('pull_request'),
      payload,
    )
    const pushedAt = Math.floor(Date.parse(pull.updatedAt) / 1000)
    // Absent when it was opened.
    const before = payload.validOrNull('before', validSha) ?? NOTHING
    return {
      ...{ kind: 'pull', action, pull },
      push: { before, after: pull.head.sha, pushedAt },
      defaultBranch: repository.valid('default_branch', validRefName),
      delivery: validDelivery(delivery),
    }
  },
}

/** @param around the object with the number, which short forms of a pull request lack */
function pullOf(repository: string, fields: Fields, around: Fields): PullRequest {
  const head = fields.object('head')
  return {
    repository,
    number: around.number('number'),
    title: oneLine(fields.text('title').slice(0, 1000)).slice(0, 200).toWellFormed(),
    author: oneLine(fields.anyObject('user').anyText('login') ?? 'ghost').slice(0, 100),
    open: fields.text('state') === 'open',
    head: {
      sha: head.valid('sha', validSha),
      branch: head.valid('ref', validRefName),
      // Null if the fork was deleted.
      repository: head.objectOrNull('repo')?.valid('full_name', validRepository) ?? null,
    },
    updatedAt: new Date((fields.secondsOrNull('updated_at') ?? 0) * 1000).toISOString(),
  }
}

/** A pull request in an answer of GitHub's API. @throws ConveyorError `invalid` */
export function pullInAnswer(repository: string, answer: Fields): PullRequest {
  return pullOf(repository, answer, answer)
}
