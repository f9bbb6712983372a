import type { Problem } from '../../api/problem.ts'
import { html } from './html.ts'
import type { PageContent } from './layout.ts'

const TITLES: Record<number, string> = {
  400: 'That request is not valid',
  401: 'Log in first',
  403: 'Not allowed',
  404: 'Not found',
  503: 'Unavailable',
}

/** What browsers get instead of a problem in JSON. */
export function errorPage(status: number, { message, hint }: Problem): PageContent {
  const title = TITLES[status] ?? (status < 500 ? 'That did not work' : 'Something went wrong')
  return {
    title: `${status} ${title}`,
    main: html`<div class="blank">
<p class="code">${status}</p>
<h1>${title}</h1>
<p>${message}.</p>
${hint !== undefined && html`<p>${hint}.</p>`}
</div>`,
  }
}
