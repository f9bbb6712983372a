import type { BuildState } from '../../../core/build.ts'
import type { TimelineSummary } from '../../../core/timeline.ts'
import type { BuildFilter, BuildPage, ListedBuild } from '../../../store/build-list.ts'
import { durationLabel, listPath, refsLinks, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html, type Renderable } from '../html.ts'
import { stateIcon, stateLabel } from '../icons.ts'
import type { PageContent, Site } from '../layout.ts'
import type { PagePosition } from './place.ts'

const STATES: readonly BuildState[] = ['pending', 'building', 'succeeded', 'failed', 'cancelled']

export function isBuildState(text: string): text is BuildState {
  return (STATES as readonly string[]).includes(text)
}

/** The builds of one page, and what their timelines say in short. */
interface SummarizedPage extends BuildPage {
  summaries: Summaries
}

type Summaries = ReadonlyMap<string, TimelineSummary>

type Filter = Pick<BuildFilter, 'repository' | 'branch' | 'state' | 'text'>

/** The list of builds, newest first, with its filters. */
export function listPage(
  site: Site,
  filter: Filter,
  { builds, next, summaries }: SummarizedPage,
  place: PagePosition,
): PageContent {
  const isFiltered = Object.values(filter).some(Boolean)
  const isEmpty = builds.length === 0 && next === null && place.cursor === undefined
  if (isEmpty && !isFiltered) return { title: 'Builds', section: 'builds', main: firstBuild(site) }
  const title = ['Builds', filter.repository, filter.branch, filter.state].filter(Boolean).join(' · ')
  return {
    title,
    section: 'builds',
    main: html`<div class="head"><h1>Builds</h1></div>
${filterForm(site, filter)}
<div data-live>
${builds.length > 0 ? buildList(site, builds, summaries) : nothingFound(site, next !== null)}
${pageLinks((position) => listPath(site, 'builds', { ...filter, ...position }), place, next)}
</div>`,
  }
}

/** Builds as rows that page.js keeps up to date. */
function buildList(site: Site, builds: readonly ListedBuild[], summaries: Summaries): Html {
  return html`<ol class="list">
${builds.map((listed) => buildRow(site, listed, summaries.get(listed.build.id)))}</ol>`
}

function buildRow(site: Site, { build, image }: ListedBuild, summary: TimelineSummary | undefined): Html {
  const title = build.commit?.title || `Build of ${build.sha.slice(0, 7)}`
  const author = build.commit?.login ?? build.commit?.author
  return html`<li class="row" id="b${build.sequence}">${stateLabel(build.state)}
<div class="what"><a class="title" href="${site.path}/builds/${build.id}"><bdi>${title}</bdi></a>
<p class="meta"><a href="${repositoryPath(site, build.repository)}">${build.repository}</a>${refsLinks(site, build)}${shaLink(site, build)}${Boolean(author) && html`<bdi>${author}</bdi>`}</p>
${build.error !== null && build.state === 'failed' && html`<p class="error"><bdi>${short(build.error)}</bdi></p>`}</div>
<div class="facts">${imageLabel(build.state, image, summary)}${durationLabel(build)}</div>
${timeOf(build.createdAt)}</li>
`
}

/** Whether there is an image, and how much of it did not have to be built. */
function imageLabel(
  state: BuildState,
  image: string | null,
  summary: TimelineSummary | undefined,
): Renderable {
  if (image === null) return state === 'succeeded' && html`<span>no image</span>`
  if (summary?.reused) return html`<span class="tag accent">image reused</span>`
  const cached =
    summary !== undefined && summary.steps > 0 && html`<span>${summary.cached}/${summary.steps} cached</span>`
  return html`${cached}<span class="tag">image</span>`
}

/** The beginning of an error: one line of a phone. */
function short(text: string): string {
  return text.length > 160 ? `${text.slice(0, 159).toWellFormed()}…` : text
}

function filterForm(site: Site, { repository, branch, state, text }: Filter): Html {
  const isFiltered = [repository, branch, state, text].some(Boolean)
  return html`<search><form class="filters" action="${site.path}/builds" data-filters>
<label class="wide">Search<input type="search" name="text" value="${text}" placeholder="Title, sha, branch" maxlength="200" enterkeyhint="search"></label>
<label>Repository<input name="repository" value="${repository}" placeholder="owner/name" maxlength="200" autocapitalize="none" spellcheck="false"></label>
<label>Branch<input name="branch" value="${branch}" maxlength="255" autocapitalize="none" spellcheck="false"></label>
<label>State<select name="state"><option value="">Any</option>${STATES.map((name) => html`<option${name === state && html` selected`}>${name}</option>`)}</select></label>
<div class="actions"><button>Filter</button>${isFiltered && html`<a href="${site.path}/builds">Clear</a>`}</div>
</form></search>`
}

/** To newer and older entries. @param pathOf the path of a position in the list */
export function pageLinks(
  pathOf: (position: Record<string, string | undefined>) => string,
  { cursor, newer }: PagePosition,
  next: string | null,
): Renderable {
  if (cursor === undefined && next === null) return null
  const trail = cursor === undefined ? undefined : [...newer, cursor].slice(-MAX_TRAIL).join(' ')
  const back = cursor !== undefined && {
    cursor: newer.at(-1),
    newer: newer.slice(0, -1).join(' ') || undefined,
  }
  return html`<nav class="pages" aria-label="Pages">
<span>${back && html`<a class="button" rel="prev" href="${pathOf(back)}">← Newer</a>`}</span>
<span>${next !== null && html`<a class="button" rel="next" href="${pathOf({ cursor: next, newer: trail })}">Older →</a>`}</span>
</nav>`
}

/** How many steps back a link can go; after that, to the newest. */
const MAX_TRAIL = 8

function nothingFound(site: Site, more: boolean): Html {
  if (more) return html`<p class="muted">None of these builds match. Older ones might.</p>`
  return html`<div class="blank"><h2>No builds match these filters</h2>
<p class="muted">Repository and branch must match exactly; the search also finds parts of titles, repositories, and branches.</p>
<p><a class="button" href="${site.path}/builds">Show all builds</a></p></div>`
}

/** What to do on a server that has built nothing yet. */
function firstBuild(site: Site): Html {
  return html`<div class="blank" data-live>
<h1>${stateIcon('none')} No builds yet</h1>
<p>Conveyor builds the image of every commit that is pushed. To make the first build, connect GitHub in one of two ways, and push:</p>
<ul>
<li>With a token in <code>GITHUB_TOKEN</code>, <code>conveyor setup owner/name</code> adds the webhook; by hand: payload URL <code>${site.url}/webhooks/github</code>, content type <code>application/json</code>, secret <code>GITHUB_SECRET</code> of this server.</li>
<li>Without a token, <a href="${site.path}/setup">make a GitHub App</a>.</li>
<li>Push a commit to a repository with a <code>Dockerfile</code>. The build appears here.</li>
</ul>
<p>Or build a branch now, from a terminal:</p>
<pre class="copy"><code tabindex="0">conveyor build owner/name:main</code></pre>
<p class="muted">If nothing appears, see <a href="${site.path}/deliveries">which deliveries were ignored</a>, and why. <code>conveyor doctor</code> checks the server’s setup.</p>
</div>`
}
