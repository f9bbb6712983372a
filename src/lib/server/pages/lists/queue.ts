import type { WorkersJson } from '../../../api/fleet.ts'
import type { Build } from '../../../core/build.ts'
import type { WaitingPage } from '../../../store/fleet.ts'
import { waitsFor } from '../../api/queue.ts'
import { durationLabel, refsLinks, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import { stateLabel } from '../icons.ts'
import type { PageContent, Site } from '../layout.ts'

/** A worker, as the API shows it to the reader. */
type Worker = WorkersJson['workers'][number]

interface QueueView {
  waiting: WaitingPage
  building: readonly Build[]
  workers: readonly Worker[]
}

const WAITS: Record<ReturnType<typeof waitsFor>, string> = {
  worker: 'waiting for a worker',
  retry: 'waiting to be retried',
  alone: 'waiting to run alone',
  slot: 'waiting for a free slot',
  start: 'starting soon',
}

/** What waits, for what, and who works. */
export function queuePage(site: Site, { waiting, building, workers }: QueueView): PageContent {
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0)
  const situation = { workers: workers.length, free: slots - waiting.building, now: Date.now() }
  const known = new Map(building.map((build) => [build.id, build]))
  return {
    title: 'Queue',
    section: 'queue',
    main: html`<div class="head"><h1>Queue</h1></div>
<div data-live>
<dl class="numbers">
<div><dt>Waiting</dt><dd>${waiting.pending}</dd></div>
<div><dt>Building</dt><dd>${waiting.building}</dd></div>
<div><dt>Slots</dt><dd>${slots}</dd></div>
<div><dt>Workers</dt><dd>${workers.length}</dd></div>
</dl>
<h2>Waiting</h2>
${
  waiting.builds.length === 0
    ? html`<p class="muted">No builds are waiting.</p>`
    : html`<ol class="list">
${waiting.builds.map((entry) => row(site, entry.build, WAITS[waitsFor(entry, situation)]))}</ol>
${waiting.next !== null && html`<p class="muted small">More builds are waiting.</p>`}`
}
<h2>Building</h2>
${
  building.length === 0
    ? html`<p class="muted">No builds are running.</p>`
    : html`<ol class="list">
${building.map((build) => row(site, build, null))}</ol>`
}
<h2>Workers</h2>
${
  workers.length === 0
    ? html`<p class="muted">No worker has reported within a minute. Start one with <code>conveyor worker</code>; with the queue in memory, <code>conveyor server</code> runs builds itself.</p>`
    : html`<ol class="list">
${workers.map((worker) => workerRow(site, worker, known))}</ol>`
}
</div>`,
  }
}

function row(site: Site, build: Build, remark: string | null): Html {
  return html`<li class="row" id="b${build.sequence}">${stateLabel(build.state)}
<div class="what"><a class="title" href="${site.path}/builds/${build.id}"><bdi>${build.commit?.title || `Build of ${build.sha.slice(0, 7)}`}</bdi></a>
<p class="meta"><a href="${repositoryPath(site, build.repository)}">${build.repository}</a>${refsLinks(site, build)}${shaLink(site, build)}</p></div>
<div class="facts">${remark !== null && html`<span>${remark}</span>`}${durationLabel(build)}</div>
${timeOf(build.createdAt)}</li>
`
}

function workerRow(site: Site, worker: Worker, known: ReadonlyMap<string, Build>): Html {
  const { host, pid, version, slots, builds, warm } = worker
  const running = builds.flatMap((id) => known.get(id) ?? [])
  return html`<li class="worker" id="w-${worker.id}">
<p><b><bdi>${host}</bdi></b> <span class="muted small">pid ${pid} · version ${version} · started ${timeOf(worker.started_at)}</span></p>
<p class="small">${builds.length} of ${slots} slots in use${running.length > 0 && ': '}${running.map(
    (build, index) =>
      html`${index > 0 && ', '}<a href="${site.path}/builds/${build.id}">${build.repository} ${build.sha.slice(0, 7)}</a>`,
  )}</p>
<p class="meta">${warm.length === 0 ? 'Not warm for any repository yet' : html`<span>Warm for</span>${warm.slice(0, 12).map((name) => html`<a class="tag" href="${repositoryPath(site, name)}">${name}</a>`)}${warm.length > 12 && html`<span>and ${warm.length - 12} more</span>`}`}</p></li>
`
}
