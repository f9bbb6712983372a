import type { IgnoredDelivery } from '../../../store/build-list.ts'
import { listPath, repositoryPath, timeOf } from '../bits.ts'
import { html } from '../html.ts'
import type { PageContent, Site } from '../layout.ts'
import { pageLinks } from './list.ts'
import type { PagePosition } from './place.ts'

/** Webhook deliveries that built nothing, and why. */
export function deliveriesPage(
  site: Site,
  repository: string | undefined,
  { deliveries, next }: { deliveries: readonly IgnoredDelivery[]; next: string | null },
  place: PagePosition,
): PageContent {
  return {
    title: 'Ignored deliveries',
    section: 'deliveries',
    main: html`<div class="head"><h1>Ignored deliveries</h1><p class="muted small">Webhooks of the last 30 days that built nothing, and why.</p></div>
<search><form class="filters" action="${site.path}/deliveries" data-filters>
<label class="wide">Repository<input type="search" name="repository" value="${repository}" placeholder="owner/name" maxlength="200" autocapitalize="none" spellcheck="false"></label>
<div class="actions"><button>Filter</button>${repository !== undefined && html`<a href="${site.path}/deliveries">Clear</a>`}</div>
</form></search>
<div data-live>
${
  deliveries.length === 0
    ? html`<p class="muted">${repository === undefined ? 'No deliveries were ignored.' : 'No deliveries of this repository were ignored.'}</p>`
    : html`<ol class="list">
${deliveries.map(
  ({
    id,
    event,
    repository: name,
    ref,
    reason,
    at,
  }) => html`<li class="row" id="d-${id}"><span class="state">${event}</span>
<div class="what"><p><bdi>${reason}</bdi></p>
<p class="meta">${name !== null && html`<a href="${repositoryPath(site, name)}">${name}</a>`}${ref !== null && html`<bdi>${ref.replace(/^refs\/(heads|tags)\//, '')}</bdi>`}<code>${id}</code></p></div>
${timeOf(at)}</li>
`,
)}</ol>`
}
${pageLinks((position) => listPath(site, 'deliveries', { repository, ...position }), place, next)}
</div>`,
  }
}
