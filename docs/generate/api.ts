import type { OpenApiOperation } from '../../src/lib/server/api/openapi.ts'
import { createServer, type ServerOptions } from '../../src/lib/server/server.ts'
import { table } from './markdown.ts'

const BEGIN = '<!-- routes: written by `npm run docs` -->'
const END = '<!-- end of the routes -->'

/** docs/api.md with the list of all routes as the server has them now. */
export async function apiPage(text: string): Promise<string> {
  const before = text.indexOf(BEGIN)
  const after = text.indexOf(END)
  if (before < 0 || after < before) throw new Error('docs/api.md has no place for the routes')
  return `${text.slice(0, before)}${BEGIN}\n\n${await routes()}\n\n${text.slice(after)}`
}

async function routes(): Promise<string> {
  // Nothing is requested, so it needs nothing to answer with.
  const options = {
    ...{ store: {}, queue: {}, logs: {}, forge: {}, webhooks: {}, auth: null, githubSecret: null },
    metrics: { contentType: 'text/plain', scrape: async () => '', answered: () => {} },
    baseUrl: () => 'http://localhost',
    log: Object.assign(() => {}, {}),
  }
  const app = await createServer(options as unknown as ServerOptions)
  await app.ready()
  const rows = Object.entries(app.openapi().paths).flatMap(([path, item]) =>
    Object.entries(item as Record<string, OpenApiOperation>).map(
      ([method, { summary, security, description = '' }]) => [
        `\`${method.toUpperCase()} ${path}\``,
        security?.length === 0 ? 'none' : (/Needs the scope `(\w+)`/.exec(description)?.[1] ?? ''),
        summary,
      ],
    ),
  )
  await app.close()
  return table(
    ['route', 'scope', 'what it does'],
    rows.sort(([a = ''], [b = '']) => (pathOf(a) < pathOf(b) ? -1 : 1)),
  )
}

function pathOf(route: string): string {
  const [method = '', path = ''] = route.replaceAll('`', '').split(' ')
  return `${path} ${method}`
}
