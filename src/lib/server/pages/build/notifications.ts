import type { Notification } from '../../../store/notifications.ts'
import { timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import type { Site } from '../layout.ts'

/** The webhooks that were sent when a build ended; null without any. */
export function notificationsHtml(site: Site, all: readonly Notification[], mayBuild: boolean): Html | null {
  if (all.length === 0) return null
  const counts = (['delivered', 'failed', 'pending'] as const).flatMap((state) => {
    const count = all.filter((one) => one.state === state).length
    return count > 0 ? [`${count} ${state}`] : []
  })
  const title = `${all.length === 1 ? 'Webhook' : 'Webhooks'}: ${counts.join(', ')}`
  return html`<details class="times"><summary>${title}</summary><ul class="small">${all.map(
    (one) =>
      html`<li><code>${one.origin}</code>${one.tag !== null && html` <span class="tag">${one.tag}</span>`} ${whatBecameOf(one)}${one.answer ? html` <code>${one.answer}</code>` : null}${
        mayBuild &&
        one.state !== 'pending' &&
        html` <form method="post" action="${site.path}/notifications/${one.id}/redeliver"><button>Send again</button></form>`
      }</li>`,
  )}</ul></details>
`
}

function whatBecameOf({ state, attempts, status, error, dueAt, attemptedAt, tookMs }: Notification): Html {
  const at = attemptedAt && timeOf(attemptedAt)
  const tries = attempts === 1 ? 'once' : `${attempts} times`
  if (state === 'delivered') return html`was delivered ${at} (HTTP ${status}, ${tookMs} ms)`
  if (state === 'failed') return html`was tried ${tries}, last ${at}: ${error}`
  if (attempts === 0 || error === null) return html`is about to be sent`
  return html`failed ${tries}, last ${at}: ${error}; next try at ${dueAt?.slice(11, 19)} UTC`
}
