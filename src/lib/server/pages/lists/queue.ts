import type { Build } from '../../../core/build.ts'
import { durationLabel, refsLabel, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import { stateLabel } from '../icons.ts'
import type { PageContent, Site } from '../layout.ts'

/** More than anybody reads. */
const MOST = 100

/** A worker, as the page shows it. */
interface ShownWorker {
  id: string
  host: string
  pid: number
  version: string
  /** How many builds it runs at a time. */
  slots: number
  /** Ids of the builds that it runs. */
  builds: readonly string[]
  /** Repositories whose layers it has cached. */
  warm: readonly string[]
  startedAt: string
}

export interface QueueView {
  /** Pending and building, oldest first. */
  builds: readonly Build[]
  workers: readonly ShownWorker[]
  /** Whether all builds and workers are shown to this reader: others may have builds that they may not see. */
  isWhole: boolean
}

/** What waits, for what, and who works. */
export function queuePage(site: Site, { builds, workers, isWhole }: QueueView): PageContent {
  const waiting = builds.filter(({ state }) => state === 'pending')
  const running = builds.filter(({ state }) => state === 'building')
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0)
  const busy = workers.reduce((sum, worker) => sum + worker.builds.length, 0)
  const known = new Map(builds.map((build) => [build.id, build]))
  return {
    title: 'Queue',
    section: 'queue',
    main: html`<div class="head"><h1>Queue</h1></div>
<div data-live>
<dl class="numbers">
<div><dt>Waiting</dt><dd>${waiting.length}</dd></div>
<div><dt>Building</dt><dd>${running.length}</dd></div>
<div><dt>Slots in use</dt><dd>${busy} of ${slots}</dd></div>
<div><dt>Workers</dt><dd>${workers.length}</dd></div>
</dl>
${!isWhole && html`<p class="muted small">Only the builds that you may see.</p>`}
<h2>Waiting</h2>
${waiting.length === 0 ? html`<p class="muted">Nothing waits.</p>` : rows(site, waiting, (build) => waitsFor(build, { busy, slots }))}
<h2>Building</h2>
${running.length === 0 ? html`<p class="muted">Nothing is built right now.</p>` : rows(site, running, () => null)}
<h2>Workers</h2>
${
  workers.length === 0
    ? html`<p class="muted">No worker has reported. Start one with <code>conveyor worker</code>, or with the queue in memory, <code>conveyor server</code> itself builds.</p>`
    : html`<ol class="list">
${workers.map((worker) => workerRow(site, worker, known))}</ol>`
}
</div>`,
  }
}

function rows(site: Site, builds: readonly Build[], remark: (build: Build) => string | null): Html {
  const more = builds.length - MOST
  return html`<ol class="list">
${builds.slice(0, MOST).map((build) => {
  const waits = remark(build)
  return html`<li class="row" id="b${build.sequence}">${stateLabel(build.state)}
<div class="what"><a class="title" href="${site.path}/builds/${build.id}"><bdi>${build.commit?.title || `Build of ${build.sha.slice(0, 7)}`}</bdi></a>
<p class="meta"><a href="${repositoryPath(site, build.repository)}">${build.repository}</a>${refsLabel(site, build)}${shaLink(site, build)}</p></div>
<div class="facts">${waits !== null && html`<span>${waits}</span>`}${durationLabel(build)}</div>
${timeOf(build.createdAt)}</li>
`
})}</ol>
${more > 0 && html`<p class="muted small">And ${more} more.</p>`}`
}

function waitsFor(build: Build, { busy, slots }: { busy: number; slots: number }): string {
  if (slots === 0) return 'waits for a worker'
  if (build.suspect) return 'waits to run alone'
  if (build.attempt > 0) return `waits for attempt ${build.attempt + 1}`
  return busy >= slots ? 'waits for a free slot' : 'starts soon'
}

function workerRow(site: Site, worker: ShownWorker, known: ReadonlyMap<string, Build>): Html {
  const { host, pid, version, slots, builds, warm } = worker
  const running = builds.flatMap((id) => known.get(id) ?? [])
  return html`<li class="worker" id="w-${worker.id}">
<p><b><bdi>${host}</bdi></b> <span class="muted small">pid ${pid} · version ${version} · since ${timeOf(worker.startedAt)}</span></p>
<p class="small">${builds.length} of ${slots} slots in use${running.length > 0 && ': '}${running.map(
    (build, index) =>
      html`${index > 0 && ', '}<a href="${site.path}/builds/${build.id}">${build.repository} ${build.sha.slice(0, 7)}</a>`,
  )}</p>
<p class="meta">${warm.length === 0 ? 'Warm for no repository yet' : html`<span>Warm for</span>${warm.slice(0, 12).map((name) => html`<a class="tag" href="${repositoryPath(site, name)}">${name}</a>`)}${warm.length > 12 && html`<span>and ${warm.length - 12} more</span>`}`}</p></li>
`
}
