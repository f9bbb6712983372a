import { type Build, isEnded, type Ref } from '../../core/build.ts'
import { refLabel } from '../../core/validate.ts'
import { type Html, html } from './html.ts'
import type { Site } from './layout.ts'

/** `/repositories/acme/web` below the base path; names of repositories need no encoding. */
export function repositoryPath({ path }: Site, repository: string): string {
  return `${path}/repositories/${repository}`
}

/** A link to a page of the list with these filters; null and empty values are left out. */
export function listPath(
  { path }: Site,
  page: 'builds' | 'repositories' | 'deliveries',
  filter: Record<string, string | null | undefined>,
): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(filter)) if (value) query.append(name, value)
  return `${path}/${page}${query.size > 0 ? `?${query}` : ''}`
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** A point in time in UTC, which page.js turns into `3 min ago`. */
export function timeOf(iso: string): Html {
  const date = new Date(iso)
  const two = (value: number) => String(value).padStart(2, '0')
  const text = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`
  return html`<time class="when" datetime="${iso.slice(0, 19)}Z">${text}</time>`
}

/** `0.4 s`, `12 s`, `3 min 05 s`, `1 h 02 min`; page.js has the same for what is still running. */
export function durationText(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const two = (value: number) => String(value).padStart(2, '0')
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}

/** How long a build took in milliseconds, from its first start to its end; null before that. */
export function durationOf({ startedAt, completedAt }: Build): number | null {
  return startedAt !== null && completedAt !== null ? Date.parse(completedAt) - Date.parse(startedAt) : null
}

/** How long a build took, or for how long it has been running: page.js counts. */
export function durationLabel(build: Build): Html | null {
  const ms = durationOf(build)
  if (ms !== null) return html`<span class="took">${durationText(ms)}</span>`
  if (isEnded(build.state) || build.startedAt === null) return null
  return html`<span class="took" data-since="${build.startedAt}"></span>`
}

/** The refs of a build in a row of a list, as `refsLabel` has them. */
export function refsLinks(site: Site, { repository, refs }: Pick<Build, 'repository' | 'refs'>): Html | null {
  const [first, second] = refs
  if (!first) return null
  const link = refLink(site, repository, first)
  if (second?.kind === 'pull' && refs.length === 2) {
    return html`<span>${link} ${refLink(site, repository, second)}</span>`
  }
  return refs.length > 1 ? html`<span>${link} +${refs.length - 1}</span>` : link
}

/** `#7`, linked to the pull request if the forge has pages. */
export function pullLink({ forge }: Site, repository: string, number: number | string): Html {
  if (forge === null) return html`<span>#${number}</span>`
  return html`<a href="${forge}/${repository}/pull/${number}">#${number}</a>`
}

/** `main`, linked to its builds, `tag v1.2`, or `#7`. */
export function refLink(site: Site, repository: string, ref: Pick<Ref, 'kind' | 'name'>): Html {
  const { kind, name } = ref
  const label = refLabel(ref)
  if (kind === 'pull') return pullLink(site, repository, name)
  if (kind === 'tag') return html`<span>tag <bdi>${name}</bdi></span>`
  const title = label !== name && html` title="${name}"`
  return html`<a href="${listPath(site, 'builds', { repository, branch: name })}"${title}><bdi>${label}</bdi></a>`
}

/** The first seven digits of a commit, linked to the forge if it has pages. */
export function shaLink({ forge }: Site, { repository, sha }: Pick<Build, 'repository' | 'sha'>): Html {
  const short = sha.slice(0, 7)
  if (forge === null) return html`<code>${short}</code>`
  return html`<a class="sha" href="${forge}/${repository}/commit/${sha}">${short}</a>`
}

/** A text to copy with a button, which only works with JavaScript. */
export function copyable(text: string, what: string): Html {
  return html`<div class="copy"><code tabindex="0">${text}</code><button type="button" data-copy="${text}" aria-label="Copy ${what}" hidden>Copy</button></div>`
}
