import type { FastifyInstance } from 'fastify'
import { Type } from '../../api/type.ts'
import type { ServerOptions } from '../options.ts'
import { docsPage } from '../pages/docs-page.ts'
import { sendPage } from '../pages/layout.ts'
import { answers, json, page } from './answers.ts'

const OPENAPI = {
  operationId: 'getOpenApi',
  tags: ['operation'],
  summary: 'Show this description',
  response: answers({
    200: json('This description of the API, in OpenAPI 3.1', Type.Object({ openapi: Type.Literal('3.1.0') })),
  }),
}
const DOCS = {
  operationId: 'getDocs',
  tags: ['pages'],
  summary: 'Read this description',
  response: answers({
    200: page('This description as a page'),
    304: { description: 'The page is as the browser knows it' },
  }),
}

/** GET /openapi.json for programs, GET /docs for people. */
export async function openApiRoute(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const read = { config: { scope: 'read' } } as const
  app.get('/openapi.json', { ...read, schema: OPENAPI }, async () => ({
    ...app.openapi(),
    servers: [{ url: options.baseUrl() }],
  }))
  app.get('/docs', { ...read, schema: DOCS }, async (_request, reply) =>
    sendPage(reply, app.site(), docsPage(app.openapi(), options.baseUrl())),
  )
}
