import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OpenApi, OpenApiOperation } from '../../../src/lib/server/api/openapi.ts'
import { curlOf } from '../../../src/lib/server/pages/docs-page.ts'
import { startTestServer, type TestServer } from '../../support/test-server.ts'

const run = promisify(execFile)

let server: TestServer
let document: OpenApi
beforeAll(async () => {
  server = await startTestServer()
  document = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi
})
afterAll(() => server[Symbol.asyncDispose]())

function routes(): { method: string; path: string; operation: OpenApiOperation }[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      ...{ method, path },
      operation: operation as OpenApiOperation,
    })),
  )
}

describe('/docs', () => {
  it('shows every route and every schema, without anything that the page may not run', async () => {
    const answer = await fetch(`${server.url}/docs`)
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(answer.headers.get('content-security-policy')).toContain("style-src 'self'")
    const page = await answer.text()
    for (const { operation } of routes()) expect(page).toContain(`<h2 id="${operation.operationId}">`)
    for (const name of Object.keys(document.components.schemas)) expect(page).toContain(`id="schema-${name}"`)
    expect(page).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?! type="module" src=")/)
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) expect(ids).toContain(target)
  })

  it('has an example for every route that the server understands', async () => {
    for (const route of routes()) {
      const command = curlOf(route, document, server.url)
      const env = { PATH: process.env.PATH ?? '', BASIC_AUTH: 'user:pass' }
      const quick = `${command} -sS -m 5 -o /dev/null -w '%{http_code}'`
      // It may go on as long as a build does.
      const { stdout } = await run('sh', ['-c', quick], { env }).catch((error: { stdout: string }) => error)
      const status = Number(stdout)
      expect([command, Object.keys(route.operation.responses)]).toEqual([
        command,
        expect.arrayContaining([String(status)]),
      ])
      const hook = route.operation.tags.includes('webhooks') && route.method === 'post'
      if (!hook) expect([command, status === 400]).toEqual([command, false])
    }
  })
})

describe('docs/api.md', () => {
  it('mentions only routes that the server has', async () => {
    const text = await readFile(new URL('../../../docs/api.md', import.meta.url), 'utf8')
    const written = [...text.matchAll(/`(GET|POST|DELETE) (\/[^`?\s]*)/g)].map(([, method, path]) => {
      const template = path
        ?.replace('OWNER/NAME@SHA', '{owner}/{name}')
        .replace('OWNER/NAME', '{owner}/{name}')
        .replace('/ID', '/{key}')
        .replace('A...B', '{builds}')
      return `${method} ${template}`
    })
    const served = routes().map(({ method, path }) => `${method.toUpperCase()} ${path}`)
    // Without --metrics, a server has no metrics.
    expect([...served, 'GET /metrics']).toEqual(expect.arrayContaining(written))
    expect(written.length).toBeGreaterThan(20)
  })
})
