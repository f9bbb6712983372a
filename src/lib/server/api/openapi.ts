import swagger from '@fastify/swagger'
import type { FastifyInstance, FastifySchema, RouteOptions } from 'fastify'
import { type AnswerDoc, page } from './answers.ts'
import { WEBHOOKS } from './notifications/webhooks.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** The description of the API in OpenAPI 3.1, without `servers`. */
    openapi(): OpenApi
  }
}

/** The parts of an OpenAPI document that are read here. */
export interface OpenApi {
  openapi: string
  paths: Record<string, Record<string, unknown>>
  components: { schemas: Record<string, unknown>; securitySchemes: Record<string, unknown> }
  [key: string]: unknown
}

/** The parts of an operation that are read here. */
export interface OpenApiOperation {
  operationId: string
  summary: string
  description?: string
  tags: string[]
  parameters?: {
    in: string
    name: string
    description?: string
    required?: boolean
    schema: object
    example?: unknown
  }[]
  requestBody?: { content: Record<string, { schema: object }> }
  responses: Record<string, AnswerDoc>
  security?: object[]
}

const TAGS = [
  { name: 'builds', description: 'Builds' },
  { name: 'logs', description: 'Logs' },
  { name: 'repositories', description: 'Repositories' },
  { name: 'fleet', description: 'Queue and workers' },
  { name: 'webhooks', description: 'Webhooks' },
  { name: 'operation', description: 'Health, metrics, and tokens' },
  { name: 'pages', description: 'Pages' },
]

const DESCRIPTION = `Conveyor builds Docker images from GitHub pushes.

Responses are JSON unless stated otherwise. Every error is \`{"id", "message"}\`, and some have a \`hint\` and the \`field\` that is invalid. Times are RFC 3339 in UTC. Fields may be added to responses at any time; existing fields stay.`

/**
 * Collects the schemas of all routes that are added after it, and makes the OpenAPI document from them: `app.openapi()`
 * once the server is ready.
 */
export async function describeRoutes(app: FastifyInstance, version: string | undefined): Promise<void> {
  const pages = new Set<string>()
  await app.register(swagger, {
    convertConstToEnum: false,
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Conveyor', version: version ?? '0', description: DESCRIPTION },
      tags: TAGS,
      security: [{ basic: [] }, { bearer: [] }],
      components: {
        securitySchemes: {
          basic: {
            type: 'http',
            scheme: 'basic',
            description: 'The login of the server, or a token as password',
          },
          bearer: { type: 'http', scheme: 'bearer', description: 'A token of `conveyor token create`' },
        },
      },
    },
    transform: ({ schema, url, route }) => {
      if (route.constraints !== undefined) pages.add(url.replace(/:(\w+)/g, '{$1}'))
      return { schema: operation(schema, route), url }
    },
  })
  let made: OpenApi | undefined
  app.decorate('openapi', () => {
    if (made === undefined) {
      const document = structuredClone(app.swagger() as unknown as OpenApi)
      document.webhooks = WEBHOOKS
      for (const path of pages) addPage(document.paths[path]?.get as OpenApiOperation | undefined)
      made = shareSchemas(document)
    }
    return made
  })
}

/** A route's schema with what its configuration says about access. */
function operation(schema: FastifySchema | undefined, { config, constraints }: RouteOptions): FastifySchema {
  // Browsers get a page from the same path.
  if (constraints !== undefined) return { hide: true }
  if (schema === undefined) return {}
  const querystring = schema.querystring
    ? { querystring: withoutDefaults(schema.querystring as QuerySchema) }
    : {}
  if (config?.public) return { ...schema, ...querystring, security: [] }
  const scope = config?.scope === undefined ? '' : `Needs the scope \`${config.scope}\`.`
  return { ...schema, ...querystring, description: [schema.description, scope].filter(Boolean).join('\n\n') }
}

/** Adds what browsers get instead. */
function addPage(operation: OpenApiOperation | undefined): void {
  if (operation === undefined) return
  const { responses } = operation
  const ok = responses[200] ?? { description: '' }
  responses[200] = { ...ok, content: { ...ok.content, ...page('A page, for browsers').content } }
  responses[304] = { description: 'The page is as the browser knows it' }
}

interface QuerySchema {
  properties: Record<string, { default?: unknown }>
  required?: string[]
}

/** Our code always finds a parameter that has a default; clients need not send it. */
function withoutDefaults(query: QuerySchema): QuerySchema {
  const required = query.required?.filter((name) => query.properties[name]?.default === undefined)
  return { ...query, required: required ?? [] }
}

/** Values, not schemas. */
const VALUES = new Set(['example', 'examples', 'default', 'enum', 'const', 'required'])

/** Moves every schema with a title to the components, and refers to it from where it was. */
function shareSchemas(document: OpenApi): OpenApi {
  const shared = document.components.schemas
  const visit = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(visit)
    if (typeof value !== 'object' || value === null) return value
    const copy: Record<string, unknown> = {}
    for (const [key, part] of Object.entries(value)) copy[key] = VALUES.has(key) ? part : visit(part)
    const { title } = copy
    if (typeof title !== 'string' || !isSchema(copy)) return copy
    shared[title] = copy
    return { $ref: `#/components/schemas/${title}` }
  }
  document.paths = visit(document.paths) as OpenApi['paths']
  document.webhooks = visit(document.webhooks)
  return document
}

function isSchema(value: object): boolean {
  return 'type' in value || 'anyOf' in value || 'enum' in value
}
