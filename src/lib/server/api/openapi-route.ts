import type { FastifyInstance } from 'fastify'
import { Type } from '../../api/type.ts'
import type { ServerOptions } from '../options.ts'
import { answers, json } from './answers.ts'

const OPENAPI = {
  operationId: 'getOpenApi',
  tags: ['operation'],
  summary: 'Show this description',
  response: answers({
    200: json('This description of the API, in OpenAPI 3.1', Type.Object({ openapi: Type.Literal('3.1.0') })),
  }),
}

/** GET /openapi.json. */
export async function openApiRoute(app: FastifyInstance, options: ServerOptions): Promise<void> {
  app.get('/openapi.json', { config: { scope: 'read' }, schema: OPENAPI }, async () => ({
    ...app.openapi(),
    servers: [{ url: options.baseUrl() }],
  }))
}
