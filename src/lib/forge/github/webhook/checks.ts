import { validRepository, validSha } from '../../../core/validate.ts'
import type { CheckRequest } from '../../forge.ts'
import { ignored, type WebhookEvent } from './event.ts'
import { type Fields, show, validDelivery } from './fields.ts'

/** Longer than any identifier of a button, or id of a build. */
const LONGEST = 100

/** Somebody wants a check run again, or has pressed one of its buttons. GitHub tells only the App that made the run. */
export const checkRunEvent: WebhookEvent = {
  fields: {
    action: true,
    check_run: { external_id: true, head_sha: true },
    requested_action: { identifier: true },
    sender: { login: true },
    repository: { full_name: true },
  },
  parse(payload, delivery) {
    const action = payload.text('action')
    if (action !== 'rerequested' && action !== 'requested_action')
      return ignored(nothing('check run', action), { quiet: true })
    const run = payload.object('check_run')
    const buildId = run.anyText('external_id')
    if (buildId === null) return ignored('the check run belongs to no build')
    const button = action === 'rerequested' ? null : payload.object('requested_action').text('identifier')
    return {
      kind: 'check',
      request: {
        ...aboutOf(payload, run, delivery),
        buildId: buildId.slice(0, LONGEST),
        action: button === null ? 'rerun' : { button: button.slice(0, LONGEST) },
      },
    }
  },
}

/** Somebody wants all checks of a commit again. */
export const checkSuiteEvent: WebhookEvent = {
  fields: {
    action: true,
    check_suite: { head_sha: true },
    sender: { login: true },
    repository: { full_name: true },
  },
  parse(payload, delivery) {
    const action = payload.text('action')
    if (action !== 'rerequested') return ignored(nothing('check suite', action), { quiet: true })
    const about = aboutOf(payload, payload.object('check_suite'), delivery)
    return { kind: 'check', request: { ...about, buildId: null, action: 'rerun' } }
  },
}

function aboutOf(
  payload: Fields,
  check: Fields,
  delivery: string,
): Pick<CheckRequest, 'repository' | 'sha' | 'by' | 'delivery'> {
  return {
    repository: payload.object('repository').valid('full_name', validRepository),
    sha: check.valid('head_sha', validSha),
    by: payload.object('sender').text('login').slice(0, LONGEST),
    delivery: validDelivery(delivery),
  }
}

function nothing(what: string, action: string): string {
  return `${what} ${show(action)}: only a request for it builds something`
}
