import { html } from '../pages/html.ts'
import type { PageContent, Site } from '../pages/layout.ts'
import type { CompletedApp } from './app-setup.ts'

interface SetupPage {
  organization: string | null
  /** Null if no App can be made. */
  form: { action: string; manifest: string } | null
  /** Where the App is kept that was made before. */
  file: string | null
  origin: string | null
}

/** The page with the form that makes a GitHub App. */
export function setupPage(site: Site, { organization, form, file, origin }: SetupPage): PageContent {
  const owner = organization === null ? 'your own account' : html`the organization <b>${organization}</b>`
  const main =
    form !== null
      ? html`<p>GitHub makes an App that belongs to ${owner} and that only this server uses. It reads code, pull requests and comments,
and writes check runs and commit statuses. You choose its repositories afterwards.</p>
<form class="field" action="${site.path}/setup"><label>Organization (empty: your own account)<input name="organization" value="${organization}" maxlength="100" autocapitalize="none" spellcheck="false" placeholder="acme"></label>
<button>Change the owner</button></form>
<form action="${form.action}" method="post"><input type="hidden" name="manifest" value="${form.manifest}">
<div class="actions"><button>Make the App on GitHub</button></div></form>`
      : file !== null
        ? html`<p>There is a GitHub App already, in <code>${file}</code> on the server’s machine. Remove the file to make another one.</p>`
        : html`<p>Conveyor cannot tell from <code>--github.url</code> where GitHub’s website is, so make the App there by hand.</p>`
  return {
    title: 'GitHub App',
    main: html`<div class="guide"><h1>GitHub App</h1>
${main}
<p class="small muted">GitHub sends webhooks to <code>${site.url}/webhooks/github</code>, which it must be able to reach.</p></div>`,
    ...(form !== null && origin !== null && { formTarget: origin }),
  }
}

/** The page after GitHub has made the App. */
export function setupDonePage({ name, installUrl, file, notes }: CompletedApp): PageContent {
  return {
    title: 'GitHub App',
    main: html`<div class="guide"><h1>GitHub made the App ${name}</h1>
<ol>
<li><a href="${installUrl}">Install it</a> on the repositories to build.</li>
${notes.map((note) => html`<li>${note}</li>\n`)}<li>Restart <code>conveyor server</code>: it reads the App from <code>${file}</code>. Servers and workers on other machines
need this file in their data directory, too, or the variables in it.</li>
</ol>
<p>From then on, people can sign in with GitHub, if <code>BASE_URL</code> begins with <code>https://</code> and <code>BASIC_AUTH</code> is not <code>none</code>.
To do without, remove <code>GITHUB_CLIENT_ID</code> and <code>GITHUB_CLIENT_SECRET</code> from the file before the restart.</p></div>`,
  }
}
