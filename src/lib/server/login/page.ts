import { html } from '../pages/html.ts'
import type { PageContent, Site } from '../pages/layout.ts'

/** Where people sign in. @param to where they go afterwards @param hasOperator whether there is a login of --auth, too */
export function loginPage(site: Site, to: string, hasOperator: boolean): PageContent {
  const next = to === '/' ? '' : `?to=${encodeURIComponent(to)}`
  return {
    title: 'Sign in',
    main: html`<div class="blank">
<h1>Sign in</h1>
<p>You see the builds of the repositories that you have access to on GitHub.</p>
<p><a class="button" href="${site.path}/login/github${next}">Sign in with GitHub</a></p>
${hasOperator && html`<p><a href="${site.path}/login-as-operator">Use the login of the operator</a></p>`}
</div>`,
  }
}
