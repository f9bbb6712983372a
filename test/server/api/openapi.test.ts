import { readFile } from 'node:fs/promises'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OpenApi, OpenApiOperation } from '../../../src/lib/server/api/openapi.ts'
import { DocumentSchemas } from '../../support/openapi/schemas.ts'
import { startTestServer, type TestServer } from '../../support/test-server.ts'

let server: TestServer
let document: OpenApi & { servers: unknown }
beforeAll(async () => {
  server = await startTestServer()
  document = (await (await fetch(`${server.url}/openapi.json`)).json()) as typeof document
})
afterAll(() => server[Symbol.asyncDispose]())

function operations(): { path: string; method: string; operation: OpenApiOperation }[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      path,
      method,
      operation: operation as OpenApiOperation,
    })),
  )
}

describe('/openapi.json', () => {
  test('is valid by the published schema of OpenAPI 3.1', async () => {
    const file = new URL('../../support/openapi/openapi-3.1.schema.json', import.meta.url)
    const ajv = new Ajv2020({ strict: false, allErrors: true })
    formats.default(ajv)
    const validate = ajv.compile(JSON.parse(await readFile(file, 'utf8')))
    validate(document)
    expect(validate.errors).toBeNull()
    // It can fail.
    expect(validate({ ...document, openapi: '3.0.0' })).toBe(false)
  })

  test('has only schemas that are valid, with examples that match them', () => {
    const schemas = new DocumentSchemas(document)
    for (const [name, schema] of Object.entries(document.components.schemas)) {
      const { examples = [] } = schema as { examples?: unknown[] }
      schemas.validator({ $ref: `#/components/schemas/${name}` })
      for (const example of examples) {
        expect([name, schemas.problems({ $ref: `#/components/schemas/${name}` }, example)]).toEqual([
          name,
          null,
        ])
      }
    }
  })

  test('says of every operation what it does and what it may answer', () => {
    for (const { path, method, operation } of operations()) {
      const name = `${method} ${path}`
      expect([name, operation.operationId, operation.summary, operation.tags]).toEqual([
        name,
        expect.stringMatching(/^[a-z][A-Za-z]+$/),
        expect.stringMatching(/^[A-Z].*[^.]$/),
        [expect.any(String)],
      ])
      const success = Object.keys(operation.responses).filter((status) => status < '300')
      const failure = Object.keys(operation.responses).filter((status) => status >= '400')
      expect([name, success.length > 0, failure.length > 0]).toEqual([name, true, true])
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter)
      const described = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
      expect([name, described.map((parameter) => parameter.name).sort()]).toEqual([name, inPath.sort()])
      for (const parameter of operation.parameters ?? []) {
        expect([name, parameter.name, parameter.description]).toEqual([
          name,
          parameter.name,
          expect.any(String),
        ])
      }
    }
  })

  test('gives each operation its own id, and only tags that are explained', () => {
    const ids = operations().map(({ operation }) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    const tags = (document.tags as { name: string }[]).map(({ name }) => name)
    for (const { operation } of operations()) expect(tags).toContain(operation.tags?.[0])
  })

  test('has an operation for each route of the page that lists them, and every operation has a route', async () => {
    for (const { path, method } of operations()) {
      const url = server.url + path.replace('{file}', 'x.svg').replace(/\{\w+\}/g, 'x')
      const options = await fetch(url, {
        method: method.toUpperCase(),
        headers: { accept: 'application/json' },
        signal: AbortSignal.timeout(10_000),
      })
      const problem = options.status >= 400 ? ((await options.json()) as { message?: string }) : {}
      expect([path, problem.message ?? '']).not.toEqual([
        path,
        expect.stringMatching(/^no such route|does not support/),
      ])
      await options.body?.cancel().catch(() => {})
    }
  })

  test('says where the server is and how to log in', () => {
    expect(document.servers).toEqual([{ url: server.url }])
    expect(document.components.securitySchemes).toMatchObject({
      basic: { type: 'http', scheme: 'basic' },
      bearer: { type: 'http', scheme: 'bearer' },
    })
    const open = operations().filter(({ operation }) => operation.security?.length === 0)
    expect(open.map(({ method, path }) => `${method} ${path}`).sort()).toEqual([
      // It shows a state only to those who may see it.
      'get /badge/{owner}/{file}',
      'get /healthz',
      'get /readyz',
      'post /',
      'post /webhooks/github',
    ])
  })
})

describe('the webhooks of /openapi.json', () => {
  test('say what is sent, by the schemas of builds and images', () => {
    const { webhooks } = document as unknown as {
      webhooks: Record<string, { post: OpenApiOperation }>
    }
    const bodies = Object.entries(webhooks).map(([name, { post }]) => [
      name,
      post.requestBody?.content['application/json']?.schema,
    ])
    expect(bodies).toEqual([
      ['buildEnded', { $ref: '#/components/schemas/BuildEnded' }],
      ['imagePushed', { $ref: '#/components/schemas/ImagePushed' }],
    ])
    const { BuildEnded } = document.components.schemas as { BuildEnded: { properties: { build: object } } }
    expect(BuildEnded.properties.build).toEqual({ $ref: '#/components/schemas/Build' })
  })
})
