import { type Build, type CommitInfo, isEnded, shortName } from '../../../core/build.ts'
import type { Timeline } from '../../../core/timeline.ts'
import type { Notification } from '../../../store/notifications.ts'
import { copyable, durationLabel, refLink, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import { stateLabel } from '../icons.ts'
import type { Site } from '../layout.ts'
import { notificationsHtml } from './notifications.ts'
import { timesHtml } from './times.ts'

/** What the page of a build shows. */
export interface BuildView {
  build: Build
  /** What it published; null before, or if it did not. */
  artifact: { image: string; tags: readonly string[] } | null
  timeline: Timeline | null
  /** The earlier build of its branch that it may be compared with; null if there is none, or it has not ended. */
  previous: Build | null
  /** Why it failed; null if it did not, or if that is not known yet. */
  failure: Html | null
  /** The webhooks that were sent when it ended. */
  notifications: readonly Notification[]
  /** What the reader may do. */
  mayBuild: boolean
}

const SOURCES: Record<NonNullable<Build['source']>, string> = {
  webhook: 'by a push',
  api: 'through the API',
  cli: 'from the CLI',
  server: 'by Conveyor itself',
}

/** What is known of a build apart from its log. The page replaces it whenever the state changes. */
export function buildHead(site: Site, view: BuildView): Html {
  const { build, artifact, timeline } = view
  return html`<div data-title="${buildTitle(build)}" data-starts="${JSON.stringify(startsOf(timeline))}">
<div class="head"><div class="build-title">
<p class="small"><a href="${repositoryPath(site, build.repository)}">${build.repository}</a></p>
<h1><bdi>${titleOf(build)}</bdi></h1>
</div>${actions(site, view)}</div>
<p class="meta facts-line">${stateLabel(build.state)}${durationLabel(build)}${refsOf(site, build)}${shaLink(site, build)}${authorOf(site, build.commit)}<span>requested ${timeOf(build.createdAt)} ${build.source && !build.fork && SOURCES[build.source]}</span>${build.attempt > 1 && html`<span>attempt ${build.attempt}</span>`}${!build.cache && html`<span>without the cache</span>`}${forkOf(site, build)}</p>
${build.reason && html`<p class="small">Built because: ${build.reason}</p>\n`}${supersededOf(site, build)}${view.failure}${artifact && imageOf(artifact)}${withheldOf(build)}${timeline && timesHtml(site, build, timeline)}${notificationsHtml(site, view.notifications, view.mayBuild)}${view.previous && html`<p class="small"><a href="${site.path}/compare/${view.previous.id}...${build.id}">Compare with the previous build of this branch</a></p>`}
</div>`
}

/** For the title of the tab: what differs most comes first. */
export function buildTitle(build: Build): string {
  return `${build.state}: ${shortName(build)}`
}

function titleOf({ commit, sha }: Build): string {
  return commit?.title || `Commit ${sha.slice(0, 7)}`
}

function refsOf(site: Site, { repository, refs }: Build): Html[] {
  return refs.slice(0, 10).map((ref) => html`<span>${refLink(site, repository, ref)}</span>`)
}

function forkOf({ forge }: Site, { fork }: Build): Html | null {
  if (!fork) return null
  const name = fork.repository ?? 'a deleted fork'
  const link = fork.repository && forge ? html`<a href="${forge}/${name}" rel="noreferrer">${name}</a>` : name
  return html`<span>from ${link}, approved by <bdi>${fork.approvedBy}</bdi>: without secrets</span>`
}

function authorOf({ forge }: Site, commit: CommitInfo | null): Html | null {
  if (commit === null || (commit.author === '' && commit.login === null)) return null
  const { login, author } = commit
  const name = author || login || ''
  if (forge === null || login === null || !/^[\w[\]-]{1,100}$/.test(login)) {
    return html`<span>by <bdi>${name}</bdi></span>`
  }
  return html`<span>by <a href="${forge}/${encodeURIComponent(login)}" rel="noreferrer"><bdi>${name}</bdi></a></span>`
}

function actions(site: Site, { build, mayBuild }: BuildView): Html | null {
  if (!mayBuild) return null
  const url = `${site.path}/builds/${build.id}`
  if (!isEnded(build.state)) {
    if (build.cancel) return html`<p class="muted">Cancelling…</p>`
    return html`<form method="post" action="${url}/cancel"><button>Cancel</button></form>`
  }
  return html`<form method="post" action="${url}/retry" class="actions"><button name="cache" value="true">Retry</button><button name="cache" value="false">Retry without cache</button></form>`
}

function imageOf({ image, tags }: { image: string; tags: readonly string[] }): Html {
  const named = tags.length > 0 ? tags : [image]
  return html`<div class="image">${copyable(`docker pull ${image}`, 'the command that pulls this image')}
<p class="small muted">Tags: ${named.map((tag) => html`<span class="tag">${shortTag(tag)}</span> `)}</p></div>`
}

/** `main` of `registry.example.com/acme/web:main`. */
function shortTag(tag: string): string {
  const at = tag.lastIndexOf(':')
  const name = tag.slice(at + 1)
  return at > 0 && !name.includes('/') ? name : tag
}

function supersededOf(site: Site, { supersededBy, state }: Build): Html | null {
  if (!supersededBy) return null
  const newer = html`<a href="${site.path}/builds/${supersededBy.id}">${supersededBy.sha.slice(0, 7)}</a>`
  const verb = isEnded(state) ? 'Superseded by' : 'Being cancelled for'
  return html`<p>${verb} the build of a newer push of its branch, ${newer}.</p>`
}

function withheldOf({ withheld = [] }: Build): Html | null {
  if (withheld.length === 0) return null
  return html`<ul class="withheld small">${withheld.map(({ tag, reason }) => html`<li><span class="tag">${tag}</span> not moved: ${reason}</li>`)}</ul>`
}

/** When the steps of the newest attempt began, by the key that they have in the log. */
function startsOf(timeline: Timeline | null): Record<string, string> {
  const prefix = timeline !== null && timeline.attempt > 1 ? `${timeline.attempt}.` : ''
  const steps = timeline?.steps ?? []
  return Object.fromEntries(
    steps.flatMap(({ number, startedAt }) => (startedAt === null ? [] : [[`${prefix}${number}`, startedAt]])),
  )
}
