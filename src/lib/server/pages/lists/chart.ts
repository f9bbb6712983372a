import { type Build, isEnded } from '../../../core/build.ts'
import type { TimelineSummary } from '../../../core/timeline.ts'
import { durationOf, durationText } from '../bits.ts'
import { type Html, html } from '../html.ts'

/** A build, and what its timeline says in short; null if it has none. */
export interface ChartedBuild {
  build: Build
  summary: TimelineSummary | null
}

/** In units of the drawing, which is stretched to the width of the page. */
const WIDTH = 1000
const HEIGHT = 100
/** Bars of builds that took no time are still to be seen. */
const LEAST = 3

/** How long the last builds took and what they did not have to build, in words and as bars. @param builds newest first */
export function timesChart(builds: readonly ChartedBuild[]): Html {
  const ended = builds.filter(({ build }) => isEnded(build.state) && durationOf(build) !== null)
  const took = ended
    .filter(({ build }) => build.state === 'succeeded')
    .map(({ build }) => durationOf(build) as number)
    .sort((one, other) => one - other)
  if (ended.length === 0) return html`<p class="muted">No build has ended yet.</p>`
  const at = (part: number) => {
    const ms = took[Math.min(took.length - 1, Math.floor(part * took.length))]
    return ms === undefined ? '–' : durationText(ms)
  }
  const reused = ended.filter(({ summary }) => summary?.reused).length
  const steps = ended.reduce((sum, { summary }) => sum + (summary?.steps ?? 0), 0)
  const cached = ended.reduce((sum, { summary }) => sum + (summary?.cached ?? 0), 0)
  const failed = ended.filter(({ build }) => build.state === 'failed').length
  return html`<dl class="numbers">
<div><dt>Median</dt><dd>${at(0.5)}</dd></div>
<div><dt>90th percentile</dt><dd>${at(0.9)}</dd></div>
<div><dt>Images reused</dt><dd>${reused} of ${ended.length}</dd></div>
${steps > 0 && html`<div><dt>Steps cached</dt><dd>${Math.floor((100 * cached) / steps)}%</dd></div>`}
<div><dt>Failed</dt><dd>${failed}</dd></div>
</dl>
${drawing(ended.toReversed())}
<p class="key"><span>${swatch('')}built</span><span>${swatch('reused')}image reused</span><span>${swatch('failed')}failed</span><span>${swatch('cancelled')}cancelled</span><span>newest on the right; full height is ${durationText(longest(ended))}</span></p>`
}

function longest(builds: readonly ChartedBuild[]): number {
  return Math.max(...builds.map(({ build }) => durationOf(build) ?? 0), 1)
}

/** @param builds oldest first */
function drawing(builds: readonly ChartedBuild[]): Html {
  const top = longest(builds)
  // A few builds get no bars as wide as a hand.
  const pitch = WIDTH / Math.max(builds.length, 25)
  const bars = builds.map(({ build, summary }, index) => {
    const ms = durationOf(build) ?? 0
    const height = Math.max(LEAST, (ms / top) * HEIGHT)
    const kind = build.state !== 'succeeded' ? build.state : summary?.reused ? 'reused' : 'built'
    const x = WIDTH - (builds.length - index) * pitch
    return html`<rect class="${kind}" x="${x.toFixed(1)}" y="${(HEIGHT - height).toFixed(1)}" width="${(pitch * 0.72).toFixed(1)}" height="${height.toFixed(1)}"><title>${build.sha.slice(0, 7)}: ${kind} in ${durationText(ms)}</title></rect>`
  })
  const label = `Times of the last ${builds.length} builds, oldest first: ${builds.map(({ build }) => durationText(durationOf(build) ?? 0)).join(', ')}`
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}"><line x1="0" y1="0.5" x2="${WIDTH}" y2="0.5"/><line x1="0" y1="${HEIGHT / 2}" x2="${WIDTH}" y2="${HEIGHT / 2}"/>${bars}</svg>`
}

function swatch(kind: string): Html {
  return html`<svg class="chart swatch" viewBox="0 0 1 1" aria-hidden="true"><rect class="${kind}" width="1" height="1"/></svg>`
}
