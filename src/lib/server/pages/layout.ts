import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'
import type { Identity } from '../access/identity.ts'
import type { ServerOptions } from '../options.ts'
import { assetPath, faviconPath, importedBy } from './assets.ts'
import { html, type Renderable } from './html.ts'
import { ICON_STATES, type IconState, SPRITE, stateIcon } from './icons.ts'

/** One page, apart from what all pages have. */
export interface PageContent {
  /** First part of the title, such as `acme/web`; what differs most comes first. */
  title: string
  /** What the icon in the tab shows; the service's own icon by default. */
  state?: IconState
  /** The entry of the navigation that the page belongs to. */
  section?: SiteSection | 'docs'
  main: Renderable
  /** Style sheets besides style.css: `log.css`. */
  styles?: readonly string[]
  /** Modules that the page loads, besides page.js: `log.js`. */
  scripts?: readonly string[]
  /** An origin besides this one that a form of the page leads to. */
  formTarget?: string
}

type SiteSection = 'builds' | 'repositories' | 'queue' | 'deliveries'

/** Where pages are: links begin with the path of the base URL, and texts that people copy with all of it. */
export interface Site {
  /** Public base URL without a trailing slash. */
  url: string
  /** Its path: empty, or such as `/conveyor`. */
  path: string
  version: string | null
  /** Where people see repositories and commits: `https://github.com`; null if nowhere. */
  forge: string | null
  /** Whether people can sign in. */
  hasSignIn: boolean
}

/** The site of a server. @param baseUrl without a trailing slash */
export function siteOf(
  baseUrl: string,
  { version, webUrl, signIn }: Pick<ServerOptions, 'version' | 'webUrl' | 'signIn'>,
): Site {
  const path = (URL.parse(baseUrl)?.pathname ?? '').replace(/\/+$/, '')
  return { url: baseUrl, path, version: version ?? null, forge: webUrl ?? null, hasSignIn: Boolean(signIn) }
}

const NAVIGATION: readonly (readonly [SiteSection | 'docs', string])[] = [
  ['builds', 'Builds'],
  ['repositories', 'Repositories'],
  ['queue', 'Queue'],
  ['deliveries', 'Deliveries'],
  ['docs', 'API'],
]

/** Pages load only files of this server, and nothing may frame them. */
const PAGE_CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

/** The whole document. */
function layout(site: Site, page: PageContent, reader: Identity | null): string {
  const { title, state = 'none', section, main, styles = [], scripts = [] } = page
  const asset = (name: string) => site.path + assetPath(name)
  const modules = ['page.js', ...scripts]
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title} · Conveyor</title>
<link rel="icon" type="image/svg+xml" href="${site.path}${faviconPath(state)}"${ICON_STATES.map((name) => html` data-${name}="${site.path}${faviconPath(name)}"`)}>
${['style.css', ...styles].map((name) => html`<link rel="stylesheet" href="${asset(name)}">\n`)}${modules.map((name) => html`<script type="module" src="${asset(name)}"></script>\n`)}${importedBy(modules).map((name) => html`<link rel="modulepreload" href="${asset(name)}">\n`)}</head>
<body>
${SPRITE}
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<a class="brand" href="${site.path}/">${stateIcon('none')}Conveyor</a>
<nav aria-label="Main">
${NAVIGATION.map(([id, label]) => html`<a href="${site.path}/${id}"${id === section && html` aria-current="page"`}>${label}</a>\n`)}</nav>
${account(site, reader)}</header>
<main id="main" tabindex="-1">
${main}
</main>
<footer>Conveyor${site.version !== null && ` ${site.version}`}</footer>
</body>
</html>
`.toString()
}

/** Who is signed in, or where to do that. */
function account(site: Site, reader: Identity | null): Renderable {
  if (!site.hasSignIn) return null
  // Not where the page is for nobody in particular, such as that of the sign-in.
  if (reader === null || reader.scopes.length === 0) return null
  if (!reader.roles) return html`<a class="account" href="${site.path}/login">Sign in</a>\n`
  return html`<form class="account" method="post" action="${site.path}/logout">
<span>${reader.name}</span>
<button type="submit">Sign out</button>
</form>
`
}

/**
 * Responds with a page. Browsers and page.js revalidate it: while it is the same, the response is 304 without a body.
 */
export function sendPage(reply: FastifyReply, site: Site, page: PageContent): FastifyReply {
  const text = layout(site, page, reply.request.identity ?? null)
  const etag = `"${createHash('sha1').update(text).digest('base64url')}"`
  reply.headers({
    'content-security-policy': page.formTarget
      ? PAGE_CSP.replace("form-action 'self'", `form-action 'self' ${page.formTarget}`)
      : PAGE_CSP,
    // With no-referrer, browsers would send forms with the origin `null`, which is refused.
    'referrer-policy': 'same-origin',
    'cache-control': 'private, no-cache',
    vary: 'accept',
    etag,
  })
  if (reply.statusCode === 200 && reply.request.headers['if-none-match'] === etag) {
    return reply.code(304).send()
  }
  return reply.type('text/html; charset=utf-8').send(text)
}
