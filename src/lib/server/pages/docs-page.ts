import type { OpenApi, OpenApiOperation } from '../api/openapi.ts'
import { type Html, html, raw } from './html.ts'
import type { PageContent } from './layout.ts'

interface SchemaDoc {
  $ref?: string
  title?: string
  type?: string
  description?: string
  enum?: unknown[]
  const?: unknown
  anyOf?: SchemaDoc[]
  items?: SchemaDoc
  properties?: Record<string, SchemaDoc>
  required?: string[]
  default?: unknown
  minimum?: number
  maximum?: number
  examples?: unknown[]
}

interface Route {
  method: string
  path: string
  operation: OpenApiOperation
}

/** The API for people: each route with an example, its parameters, and what it answers. @param baseUrl for examples */
export function docsPage(document: OpenApi, baseUrl: string): PageContent {
  const routes = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(
      ([method, operation]): Route => ({ method, path, operation: operation as OpenApiOperation }),
    ),
  )
  const sections = (document.tags as { name: string; description: string }[])
    .map(({ name, description }) => ({
      ...{ name, description },
      routes: routes.filter(({ operation }) => operation.tags.includes(name)),
    }))
    .filter((section) => section.routes.length > 0)
  const schemas = Object.entries(document.components.schemas) as [string, SchemaDoc][]
  return {
    title: 'API',
    section: 'docs',
    styles: ['docs.css'],
    main: html`<div class="docs">
<h1>API</h1>
${paragraphs((document.info as { description: string }).description)}
<p>Programs read <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<nav aria-label="Routes">
${sections.map(
  (section) => html`<h2>${section.description}</h2>
<ul>
${section.routes.map(({ method, path, operation }) => html`<li><a href="#${operation.operationId}"><code>${method.toUpperCase()} ${path}</code></a> ${operation.summary}</li>\n`)}</ul>
`,
)}</nav>
${sections.map((section) => section.routes.map((route) => routeDoc(route, document, baseUrl)))}
<h2 id="schemas">Schemas</h2>
${schemas.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, schema]) => schemaDoc(name, schema))}
</div>`,
  }
}

function routeDoc({ method, path, operation }: Route, document: OpenApi, baseUrl: string): Html {
  const { operationId, summary, description, parameters = [], requestBody, responses } = operation
  const body = requestBody && (Object.values(requestBody.content)[0]?.schema as SchemaDoc | undefined)
  return html`<section class="route">
<h2 id="${operationId}">${summary}</h2>
<p><code>${method.toUpperCase()} ${path}</code></p>
${description && paragraphs(description)}
<pre tabindex="0"><code>${curlOf({ method, path, operation }, document, baseUrl)}</code></pre>
${
  parameters.length > 0 &&
  html`<table><caption>Parameters</caption><thead><tr><th scope="col">Name</th><th scope="col">In</th><th scope="col">Value</th><th scope="col">Meaning</th></tr></thead><tbody>
${parameters.map((one) => {
  const schema = one.schema as SchemaDoc
  return html`<tr><td><code>${breakable(one.name)}</code></td><td>${one.in}</td><td>${typeText(schema)}${schema.default !== undefined && ` = ${JSON.stringify(schema.default)}`}</td><td>${coded(one.description ?? '')}</td></tr>\n`
})}</tbody></table>`
}
${body && html`<p>Body: ${typeText(body)}</p>`}
<table><caption>Responses</caption><thead><tr><th scope="col">Status</th><th scope="col">Meaning</th><th scope="col">Body</th></tr></thead><tbody>
${responseRows(responses)}</tbody></table>
</section>
`
}

/** Those with the same body, which is most errors, share its cell. */
function responseRows(responses: OpenApiOperation['responses']): Html[] {
  const groups: { body: Html; rows: [string, string][] }[] = []
  for (const [status, { description, content = {} }] of Object.entries(responses)) {
    const body = html`${Object.entries(content).map(
      ([type, { schema }], i) =>
        html`${i > 0 && html`<br>`}<code>${type}</code>${type === 'application/json' && html` ${typeText(schema as SchemaDoc)}`}`,
    )}`
    const last = groups.at(-1)
    if (last?.body.toString() === body.toString()) last.rows.push([status, description])
    else groups.push({ body, rows: [[status, description]] })
  }
  return groups.flatMap(({ body, rows }) =>
    rows.map(
      ([status, meaning], i) =>
        html`<tr><td><code>${status}</code></td><td>${coded(meaning)}</td>${i === 0 && html`<td${rows.length > 1 && html` rowspan="${rows.length}"`}>${body}</td>`}</tr>\n`,
    ),
  )
}

/** A command that works after its placeholders were replaced. */
export function curlOf({ method, path, operation }: Route, document: OpenApi, baseUrl: string): string {
  const { parameters = [], requestBody, responses, security } = operation
  const example = (name: string, otherwise: string) => {
    const one = parameters.find((parameter) => parameter.name === name)
    return String(one?.example ?? (one?.schema as SchemaDoc | undefined)?.examples?.[0] ?? otherwise)
  }
  const filled = path.replace(/\{(\w+)\}/g, (whole, name: string) => example(name, whole))
  const needed = parameters.filter((one) => one.in === 'query' && one.required)
  const query = new URLSearchParams(Object.fromEntries(needed.map(({ name }) => [name, example(name, name)])))
  const words = ['curl']
  if (security?.length !== 0) words.push('-u "$BASIC_AUTH"')
  const types = Object.entries(responses)
    .filter(([status]) => status < '300')
    .flatMap(([, answer]) => Object.keys(answer.content ?? {}))
  if (types.includes('text/event-stream') && !types.includes('application/json')) words.push('-N')
  if (method !== 'get' && method !== 'post') words.push(`-X ${method.toUpperCase()}`)
  if (method === 'post' && !requestBody) words.push('-X POST')
  if (requestBody) {
    const media = Object.values(requestBody.content)[0] as { schema: SchemaDoc; example?: unknown }
    words.push(`-d '${JSON.stringify(exampleOf(media, document))}'`)
  }
  if (types.includes('application/json') && types.includes('text/plain'))
    words.push("-H 'Accept: application/json'")
  return [...words, `'${baseUrl}${filled}${needed.length > 0 ? `?${query}` : ''}'`].join(' ')
}

function exampleOf(
  { schema, example }: { schema: SchemaDoc; example?: unknown },
  document: OpenApi,
): unknown {
  const name = schema.$ref?.split('/').at(-1)
  const resolved = name === undefined ? schema : (document.components.schemas[name] as SchemaDoc)
  return example ?? resolved.examples?.[0] ?? {}
}

function schemaDoc(name: string, schema: SchemaDoc): Html {
  const { description, properties, required = [] } = schema
  return html`<section class="schema">
<h3 id="schema-${name}">${name}</h3>
${description && paragraphs(description)}
${
  properties
    ? html`<table><thead><tr><th scope="col">Key</th><th scope="col">Value</th><th scope="col">Meaning</th></tr></thead><tbody>
${Object.entries(properties).map(
  ([key, one]) =>
    html`<tr><td><code>${breakable(key)}</code>${!required.includes(key) && ' (optional)'}</td><td>${typeText(one)}</td><td>${coded(descriptionOf(one))}</td></tr>\n`,
)}</tbody></table>`
    : html`<p>${typeText({ ...schema, title: '' })}</p>`
}
</section>
`
}

function descriptionOf(schema: SchemaDoc): string {
  return schema.description ?? schema.anyOf?.find((one) => one.description)?.description ?? ''
}

/** `string or null`, with links to schemas. */
function typeText(schema: SchemaDoc): Html {
  const name = schema.$ref?.split('/').at(-1)
  if (name !== undefined) return html`<a href="#schema-${name}">${breakable(name)}</a>`
  if (schema.anyOf) return html`${schema.anyOf.map((one, i) => html`${i > 0 && ' or '}${typeText(one)}`)}`
  if (schema.enum)
    return html`${schema.enum.map((one, i) => html`${i > 0 && ', '}<code>${String(one)}</code>`)}`
  if (schema.const !== undefined) return html`<code>${String(schema.const)}</code>`
  if (schema.type === 'array' && schema.items) return html`list of ${typeText(schema.items)}`
  const { minimum, maximum } = schema
  const range = maximum === undefined ? '' : ` ${minimum ?? 0} to ${maximum}`
  return html`${schema.type ?? 'any'}${range}`
}

function paragraphs(text: string): Html {
  return html`${text.split('\n\n').map((part) => html`<p>${coded(part)}</p>\n`)}`
}

/** A name that a phone may break between its words. */
function breakable(name: string): Html {
  return html`${name.split(/(?<=_)|(?=[A-Z])/).map((part, i) => html`${i > 0 && raw('<wbr>')}${part}`)}`
}

/** Text with `code` in it. */
function coded(text: string): Html {
  return html`${text.split('`').map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : part))}`
}
