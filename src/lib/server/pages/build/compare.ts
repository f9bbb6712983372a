import type { FastifyInstance } from 'fastify'
import type { ComparisonJson } from '../../../api/timeline.ts'
import type { Build } from '../../../core/build.ts'
import type { BuildStore } from '../../../store/build-store.ts'
import { compared, comparison } from '../../api/timelines.ts'
import type { ServerOptions } from '../../options.ts'
import { durationText, repositoryPath, shaLink, timeOf } from '../bits.ts'
import { type Html, html } from '../html.ts'
import { stateLabel } from '../icons.ts'
import { type PageContent, type Site, sendPage } from '../layout.ts'
import { PAGE } from '../negotiation.ts'

/** How many earlier builds of a branch are looked at: others may have been cancelled. */
const LOOKED_AT = 10

/** The page that compares two builds, at GET /compare/{A...B}. */
export async function comparePageRoutes(
  app: FastifyInstance,
  { store, baseUrl }: ServerOptions,
): Promise<void> {
  for (const path of ['/compare/:builds', '/compare/:first/:second', '/compare/:first/:second/:third']) {
    app.get(path, PAGE, async (request, reply) => {
      const [a, b] = await compared(store, request)
      const differences = await comparison(store, a, b, baseUrl())
      return sendPage(reply, app.site(), comparePage(app.site(), [a, b], differences))
    })
  }
}

/** The newest build before this one of the same branch that succeeded or failed; null if there is none. */
export async function previousBuild(
  store: BuildStore,
  { repository, refs, sequence }: Build,
): Promise<Build | null> {
  const branch = refs.find(({ kind }) => kind === 'branch')?.name
  if (branch === undefined) return null
  const { builds } = await store.list({ repository, branch, before: sequence }, { limit: LOOKED_AT })
  return builds.find(({ build: { state } }) => state === 'succeeded' || state === 'failed')?.build ?? null
}

function comparePage(site: Site, builds: readonly [Build, Build], differences: ComparisonJson): PageContent {
  const [a, b] = builds.map(({ sha }) => sha.slice(0, 7))
  const { same_image, context, bases, instructions, settings, steps } = differences
  return {
    title: `${a}...${b}`,
    section: 'builds',
    styles: ['docs.css'],
    main: html`<div class="docs"><h1>Compare ${a} with ${b}</h1>
<table><thead><tr><th scope="col">Build</th><th scope="col">State</th><th scope="col">Commit</th><th scope="col">Requested</th></tr></thead><tbody>
${builds.map((build) => buildRow(site, build))}</tbody></table>
<h2>Image</h2>
<p>${same_image === null ? 'Not both builds have an image.' : same_image ? 'Both have the same image.' : 'The images differ.'}</p>
<h2>Build context</h2>
<p>${context.same === null ? 'It is not known whether it differs.' : context.same ? 'All files are the same.' : 'Files differ.'}</p>
${
  context.files &&
  context.files.length > 0 &&
  html`<ul>${context.files.map(({ path, change }) => html`<li><code>${path}</code> ${CHANGES[change]}</li>`)}${context.more > 0 && html`<li>and ${context.more} more</li>`}</ul>`
}
<h2>Dockerfile</h2>
${pairsHtml(instructions, 'All instructions are the same.', ({ a, b }) => [a, b])}
<h2>Base images</h2>
${pairsHtml(bases, 'All base images are the same.', ({ name, a, b }) => [a && `${name}@${a}`, b && `${name}@${b}`])}
<h2>Settings</h2>
${
  settings === null
    ? UNKNOWN
    : settings.length === 0
      ? html`<p>All settings are the same.</p>`
      : html`<ul>${settings.map(({ name, change }) => html`<li><code>${name}</code> ${SETTINGS[change]}</li>`)}</ul>`
}
<h2>Steps</h2>
${
  steps.length === 0
    ? html`<p>Neither build has steps.</p>`
    : html`<table><thead><tr><th scope="col">Step</th><th scope="col">${a}</th><th scope="col">${b}</th></tr></thead><tbody>
${steps.map((step) => html`<tr><td><code>${step.name}</code></td><td>${stepText(step.a)}</td><td>${stepText(step.b)}</td></tr>\n`)}</tbody></table>`
}</div>`,
  }
}

const CHANGES: Record<string, string> = {
  added: 'is new',
  removed: 'was removed',
  changed: 'changed',
  mode: 'has another mode',
}
const SETTINGS: Record<string, string> = { added: 'is new', removed: 'was removed', changed: 'changed' }
const UNKNOWN = html`<p>It is not known whether they differ.</p>`

function buildRow(site: Site, build: Build): Html {
  const { id, repository, state, commit, sha, createdAt } = build
  return html`<tr><td><a href="${site.path}/builds/${id}"><bdi>${commit?.title || `Build of ${sha.slice(0, 7)}`}</bdi></a></td><td>${stateLabel(state)}</td><td><a href="${repositoryPath(site, repository)}">${repository}</a> ${shaLink(site, build)}</td><td>${timeOf(createdAt)}</td></tr>
`
}

/** What only one side has, or differs; null if it is not known. */
function pairsHtml<Pair>(
  pairs: readonly Pair[] | null,
  same: string,
  sides: (pair: Pair) => [string | null, string | null],
): Html {
  if (pairs === null) return UNKNOWN
  if (pairs.length === 0) return html`<p>${same}</p>`
  const lines = pairs.flatMap((pair) => {
    const [before, after] = sides(pair)
    return [
      before !== null && html`<del>- ${before}</del>\n`,
      after !== null && html`<ins>+ ${after}</ins>\n`,
    ]
  })
  return html`<pre tabindex="0">${lines}</pre>`
}

function stepText(step: ComparisonJson['steps'][number]['a']): string {
  if (step === null) return 'none'
  return step.state === 'done' && step.ms !== null ? durationText(step.ms) : step.state
}
