import type { Build } from '../../../core/build.ts'
import { isFromFork, type PullRequest } from '../../../core/pull-request.ts'
import type { BuiltRef, RepositoryPage } from '../../../store/build-list.ts'
import type { LastComparison } from '../../../store/comparisons.ts'
import { copyable, listPath, pullLink, refLink, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import { stateLabel } from '../icons.ts'
import type { PageContent, Site } from '../layout.ts'
import { type ChartedBuild, timesChart } from './chart.ts'
import { pageLinks } from './list.ts'
import type { PagePosition } from './place.ts'

/** All repositories, the one that was built last first. */
export function repositoriesPage(
  site: Site,
  { repositories, next }: RepositoryPage,
  place: PagePosition,
): PageContent {
  const rows = repositories.map(
    ({ name, last: { build } }) => html`<li class="row" id="r-${name}">${stateLabel(build.state)}
<div class="what"><a class="title" href="${repositoryPath(site, name)}">${name}</a>
<p class="meta"><a href="${site.path}/builds/${build.id}"><bdi>${build.commit?.title || 'Last build'}</bdi></a>${shaLink(site, build)}</p></div>
${timeOf(build.createdAt)}</li>
`,
  )
  return {
    title: 'Repositories',
    section: 'repositories',
    main: html`<div class="head"><h1>Repositories</h1></div>
<div data-live>
${
  rows.length > 0
    ? html`<ol class="list">
${rows}</ol>`
    : html`<div class="blank"><h2>No repository has been built yet</h2><p><a href="${site.path}/builds">How to make the first build</a></p></div>`
}
${pageLinks((position) => listPath(site, 'repositories', position), place, next)}
</div>`,
  }
}

export interface RepositoryView {
  name: string
  refs: readonly BuiltRef[]
  /** The last builds, newest first. */
  builds: readonly ChartedBuild[]
  /** Null if its heads have never been compared with its builds. */
  compared: LastComparison | null
  /** The open ones, the one that changed last first. */
  pulls: readonly PullRequest[]
  /** Whether the reader may approve the commits of forks. */
  mayBuild: boolean
  /** Whether badges show something without a login. */
  hasPublicBadges: boolean
}

/** One repository: its branches and tags with their images, how long its builds took, and its badge. */
export function repositoryPage(
  site: Site,
  { name, refs, builds, compared, pulls, mayBuild, hasPublicBadges }: RepositoryView,
): PageContent {
  const badge = `${site.path}/badge/${name}.svg`
  const markdown = `[![image](${site.url}/badge/${name}.svg)](${site.url}/repositories/${name})`
  return {
    title: name,
    section: 'repositories',
    ...(builds[0] && { state: builds[0].build.state }),
    main: html`<div class="head"><h1>${name}</h1><p class="small">${site.forge !== null && html`<a href="${site.forge}/${name}">Source</a> · `}<a href="${listPath(site, 'builds', { repository: name })}">All builds</a></p></div>
<section data-live aria-labelledby="refs"><h2 id="refs">Branches and tags</h2>
<ol class="list">
${refs.map((ref) => refRow(site, name, ref))}</ol>
${compared && comparedLine(compared)}</section>
${pullsSection(site, { pulls, refs, mayBuild })}<section data-live aria-labelledby="times"><h2 id="times">Build times</h2>
${timesChart(builds)}</section>
<section aria-labelledby="badge"><h2 id="badge">Badge</h2>
<p><img src="${badge}" alt="The badge of this repository" height="20"></p>
${copyable(markdown, 'the Markdown of the badge')}
<p class="muted small">${
      hasPublicBadges
        ? html`It shows the default branch; for another one, append <code>?branch=NAME</code>.`
        : html`Badges are private on this server: without a login, all of them say “unknown”. The option <code>--badges public</code> changes that.`
    }</p></section>`,
  }
}

/** Whether pushes without a webhook are found. */
function comparedLine({ at, error }: LastComparison): Html {
  if (error === null) {
    return html`<p class="muted small">Compared with the git server for pushes without a webhook: ${timeOf(at)}</p>`
  }
  return html`<p class="small">Pushes without a webhook are not found: <bdi>${error}</bdi> (${timeOf(at)})</p>`
}

function pullsSection(
  site: Site,
  { pulls, refs, mayBuild }: Pick<RepositoryView, 'pulls' | 'refs' | 'mayBuild'>,
): Html | null {
  if (pulls.length === 0) return null
  return html`<section aria-labelledby="pulls"><h2 id="pulls">Open pull requests</h2>
<ol class="list">
${pulls.map((pull) => {
  const own = refs.find(({ ref }) => ref.kind === 'pull' && ref.name === `${pull.number}`)?.last.build
  return pullRow(site, pull, { build: own?.sha === pull.head.sha ? own : null, mayBuild })
})}</ol></section>
`
}

/**
 * Commits of forks are built only if somebody asks for exactly the commit that they see.
 * @param build that of the head; null if there is none
 */
function pullRow(
  site: Site,
  pull: PullRequest,
  { build, mayBuild }: { build: Build | null; mayBuild: boolean },
): Html {
  const { repository, number, head } = pull
  const short = head.sha.slice(0, 7)
  const form =
    mayBuild &&
    html`<form method="post" action="${site.path}/builds" class="actions"><input type="hidden" name="repository" value="${repository}"><input type="hidden" name="pull" value="${number}"><input type="hidden" name="sha" value="${head.sha}"><button title="Without secrets, tagged pr-${number}">Build ${short}</button></form>`
  return html`<li class="row" id="pull-request-${number}">${build && stateLabel(build.state)}
<div class="what"><p class="title">${pullLink(site, repository, number)} ${build ? html`<a href="${site.path}/builds/${build.id}"><bdi>${pull.title}</bdi></a>` : html`<bdi>${pull.title}</bdi>`}</p>
<p class="meta"><span>by <bdi>${pull.author}</bdi></span>${shaLink(site, { repository, sha: head.sha })}${isFromFork(pull) && html`<span>from ${head.repository ?? 'a fork that is gone'}: built only by an approval</span>`}</p></div>
${isFromFork(pull) && build === null && form}${timeOf(pull.updatedAt)}</li>
`
}

function refRow(site: Site, repository: string, { ref, last: { build }, image }: BuiltRef): Html {
  return html`<li class="row" id="${ref.kind}-${ref.name}">${stateLabel(build.state)}
<div class="what"><p class="title">${refLink(site, repository, ref)}</p>
<p class="meta"><a href="${site.path}/builds/${build.id}"><bdi>${build.commit?.title || 'Last build'}</bdi></a>${shaLink(site, build)}</p>
${image === null ? html`<p class="muted small">No image yet</p>` : copyable(`docker pull ${image}`, `the command that pulls the image of ${ref.name}`)}</div>
${timeOf(build.createdAt)}</li>
`
}
