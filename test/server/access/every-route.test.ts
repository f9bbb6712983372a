import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newTokenText, type Scope, tokenHash } from '../../../src/lib/core/access/access-token.ts'
import type { GuardedRoute } from '../../../src/lib/server/access/identity.ts'
import { startTestServer, type TestServer } from '../../support/test-server.ts'

/** All routes that the server has, whoever added them, for callers with any rights. */

/** No name is part of another one, or of anything else in a response. */
const REPOSITORIES = ['acme/zebra-app', 'acme/walrus-web', 'globex/okapi-api', 'initech/quokka-core']
const GLOBS = ['acme/*', '*/*-web', 'globex/okapi-api', '*/*', 'ACME/Zebra-*', 'nobody/*', 'initech/*core']
const LOG = (repository: string) => `this is the log of ${repository}\n`

let server: TestServer
let ids: Record<string, { id: string; sha: string; artifact: string }>

beforeAll(async () => {
  server = await startTestServer({
    auth: { username: 'ops', password: 'secret' },
    metrics: {
      contentType: 'text/plain',
      scrape: async () => REPOSITORIES.map((name) => `builds{repository="${name}"} 1\n`).join(''),
      answered: () => {},
    },
  })
  ids = {}
  for (const [at, repository] of REPOSITORIES.entries()) {
    const sha = `${at + 1}`.repeat(40)
    const { build } = await server.store.accept({
      ...{ repository, sha, ref: { kind: 'branch', name: 'main' }, defaultBranch: 'main', cache: true },
      source: { kind: 'api' },
    })
    await server.store.claim(build.id)
    await server.writeLog(build, LOG(repository))
    await server.endLog(build)
    const image = `registry.example/${repository}@sha256:${'5'.repeat(64)}`
    const tags = [`registry.example/${repository}:main`]
    expect(await server.store.finish(build.id, 1, 1, { state: 'succeeded', image, tags })).toBe('finished')
    const artifact = await server.store.artifactOf(build.id)
    ids[repository] = { id: build.id, sha, artifact: artifact?.id ?? '' }
  }
})
afterAll(() => server[Symbol.asyncDispose]())

const reads = () => server.routes().filter(({ method, access }) => method === 'GET' && access !== 'public')

/** The paths of a route for each repository; the ids are of builds, artifacts, or owners and names. */
function pathsOf({ url }: GuardedRoute): string[] {
  const paths = REPOSITORIES.flatMap((repository) => {
    const { id, sha, artifact } = ids[repository] ?? { id: '', sha: '', artifact: '' }
    const [owner = '', name = ''] = repository.split('/')
    const fill = (key: string, last: string) =>
      url
        .replace(':owner', owner)
        .replace(':name', last)
        .replace(/\*$/, key)
        .replace(/:[A-Za-z]+/g, key)
    return [
      ...[id, artifact, `${owner}%2F${name}@${sha}`, `${owner}%2F${name}`].map((key) => fill(key, name)),
      fill(`${id}...${ids[REPOSITORIES[0] ?? '']?.id}`, `${name}@${sha}`),
    ]
  })
  return [...new Set(paths)]
}

async function token(scope: Scope, repositories: string[]): Promise<{ name: string; text: string }> {
  const text = newTokenText()
  const name = `t-${text.slice(4, 14)}`
  const asked = { name, scope, repositories, createdBy: 'test', expiresInSeconds: null }
  await server.store.tokens.create(asked, tokenHash(text))
  return { name, text }
}

/** In short sleeps, so that a pause of this process hardly counts: the server runs in it, too. */
async function twoSeconds(): Promise<'late'> {
  for (let turn = 0; turn < 40; turn++) await sleep(50)
  return 'late'
}

/** Status and body of a response; of a stream that does not end, what arrives at once. */
async function read(path: string, text: string, accept: string) {
  const answer = await fetch(`${server.url}${path}`, {
    headers: { authorization: `Bearer ${text}`, accept },
    redirect: 'manual',
  })
  let body = ''
  const decoder = new TextDecoder()
  const reader = answer.body?.getReader()
  for (;;) {
    const next = await Promise.race([reader?.read(), twoSeconds()])
    if (next === 'late') await reader?.cancel()
    if (next === 'late' || next === undefined || next.done) break
    body += decoder.decode(next.value, { stream: true })
  }
  return { status: answer.status, body: `${body} ${answer.headers.get('location') ?? ''}` }
}

test('every route that is not public has a scope', () => {
  expect(server.routes().length).toBeGreaterThan(20)
  expect(server.routes().filter(({ access }) => access === 'none')).toEqual([])
})

test('what changes something needs more than the scope read', () => {
  const changes = server.routes().filter(({ method }) => !['GET', 'HEAD', 'OPTIONS'].includes(method))
  // The same paths have routes that answer other methods with 405.
  const changing = new Set(
    changes.filter(({ access }) => access === 'build' || access === 'admin').map(({ url }) => url),
  )
  expect(changing).toContain('/builds')
  expect(changing).toContain('/tokens')
})

test('public routes are those of webhooks, health, and what pages and badges are made of', () => {
  const open = server.routes().filter(({ access }) => access === 'public')
  for (const { method, url } of open) {
    expect(`${method} ${url}`).toMatch(
      /^(POST (\/|\/webhooks\/github)|(GET|HEAD) \/(healthz|readyz|assets\/.*|favicon.*|badge\/:owner\/:file))$/,
    )
  }
})

test('no response names a repository that the token is not for, on any route, in any format', async () => {
  const everything = await token('read', [])
  const seen = new Set<string>()
  for (const route of reads()) {
    for (const path of pathsOf(route)) {
      const { body } = await read(path, everything.text, 'application/json, text/plain;q=0.5')
      for (const repository of REPOSITORIES) if (body.includes(repository)) seen.add(route.url)
    }
  }
  // What is compared is really shown to those who may see it.
  for (const url of ['/builds/:key', '/logs/:key', '/artifacts/:key', '/builds/:key/events', '/metrics']) {
    expect(seen).toContain(url)
  }
  const formats = fc.constantFrom('application/json', 'text/plain', 'text/event-stream', 'text/html')
  await fc.assert(
    fc.asyncProperty(
      fc.subarray(GLOBS, { minLength: 1, maxLength: 2 }),
      fc.constantFrom<Scope>('read', 'build'),
      formats,
      async (globs, scope, accept) => {
        const limited = await token(scope, globs)
        const hidden = REPOSITORIES.filter((name) => !allowedBy(globs, name))
        for (const route of reads()) {
          for (const path of pathsOf(route)) {
            const { status, body } = await read(path, limited.text, accept)
            const where = `${path} for ${globs.join()} as ${accept}`
            expect(status, where).toBeLessThan(500)
            // A problem may repeat what was asked for.
            const told = status === 404 || status === 400 ? body.replaceAll(nameIn(path), '') : body
            for (const repository of hidden) {
              const { id = '', sha = '' } = ids[repository] ?? {}
              expect(told.includes(repository), `${repository} in ${where}`).toBe(false)
              if (status === 200 && !path.includes(id))
                expect(body.includes(id), `the id of ${repository} in ${where}`).toBe(false)
              if (status === 200 && !path.includes(sha))
                expect(body.includes(sha), `the commit of ${repository} in ${where}`).toBe(false)
            }
          }
        }
      },
    ),
    { numRuns: 5 },
  )
}, 600_000)

/** The repository that a path names. */
function nameIn(path: string): string {
  const plain = decodeURIComponent(path)
  return REPOSITORIES.find((name) => plain.includes(name)) ?? '\0'
}

/** Written again, with a regular expression. */
function allowedBy(globs: string[], repository: string): boolean {
  return globs.some((glob) => {
    const pattern = glob.replace(/[.]/g, '\\.').replaceAll('*', '[^/]*')
    return new RegExp(`^${pattern}$`, 'i').test(repository)
  })
}
