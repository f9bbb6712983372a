import type { Build } from '../../../core/build.ts'
import type { MissCause, Missed, Timeline } from '../../../core/timeline.ts'
import { type Html, html, raw } from '../html.ts'
import type { Site } from '../layout.ts'
import { timelineSvg } from '../timeline-svg.ts'

/** Where the time of a build went, and why it did not take more from the cache; null if nothing is recorded. */
export function timesHtml(site: Site, build: Build, timeline: Timeline): Html | null {
  if (timeline.phases.length === 0 && timeline.steps.length === 0) return null
  const warnings = timeline.steps.flatMap((step) => step.warnings)
  return html`<details class="times"><summary>Where the time went${timeline.missed && html`, and why it was not cached`}</summary>
${timeline.missed && missedHtml(site, timeline.missed)}
${raw(timelineSvg(build, timeline))}</details>
${
  warnings.length > 0 &&
  html`<details class="times"><summary>${warnings.length} ${warnings.length === 1 ? 'warning' : 'warnings'} about the Dockerfile</summary><ul class="small">${warnings.map(
    ({ message, file, line }) =>
      html`<li>${file !== null && html`<code>${file}${line !== null && `:${line}`}</code> `}${message}</li>`,
  )}</ul></details>`
}`
}

function missedHtml({ path }: Site, { step, name, causes, more, comparedWith }: Missed): Html {
  const before =
    comparedWith && html`<a href="${path}/builds/${comparedWith.build}">${comparedWith.sha.slice(0, 7)}</a>`
  return html`<p class="small">The first step that was not cached is <code>#${step} ${name}</code>${before && html`, compared with ${before}`}:</p>
<ul class="causes small">${causes.map((cause) => html`<li>${causeText(cause)}</li>`)}${more > 0 && html`<li>and ${more} more</li>`}</ul>`
}

const CHANGES = { added: 'is new', removed: 'was removed', changed: 'changed', mode: 'has a different mode' }

function causeText(cause: MissCause): Html {
  switch (cause.kind) {
    case 'first_build':
      return html`this is the first build of the repository`
    case 'file':
      return html`<code>${cause.path}</code> ${CHANGES[cause.change]}`
    case 'base':
      return html`the image <code>${cause.name}</code> changed from <code>${shortDigest(cause.before)}</code> to <code>${shortDigest(cause.after)}</code>`
    case 'instruction':
      return cause.before === null
        ? html`the instruction <code>${cause.after}</code> is new`
        : html`the instruction <code>${cause.before}</code> became <code>${cause.after}</code>`
    case 'setting':
      return html`the setting <code>${cause.name}</code> changed`
    case 'no_cache_requested':
      return html`the build was requested without the cache`
    case 'not_in_cache':
      return html`nothing changed, but the result was not in this builder’s cache: it was pruned, or never there`
    case 'unknown':
      return html`there is nothing to compare this build with`
  }
}

function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, 12)
}
