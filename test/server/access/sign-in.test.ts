import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Scope } from '../../../src/lib/core/access/access-token.ts'
import { newSessionKey } from '../../../src/lib/core/access/session.ts'
import { githubSignIn } from '../../../src/lib/forge/github/sign-in.ts'
import { People } from '../../../src/lib/server/access/people.ts'
import { localPath } from '../../../src/lib/server/login/routes.ts'
import type { TestUser } from '../../support/github/apps/users.ts'
import { type GitHubDouble, startGitHubDouble } from '../../support/github/double.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

/** Sign in with GitHub, with a browser that is only its cookies. */

const HTML = 'text/html,application/xhtml+xml,*/*;q=0.8'
const OPERATOR = { username: 'ops', password: 'secret' }
const REPOSITORIES = ['acme/read', 'acme/write', 'acme/admin', 'acme/closed']

let double: GitHubDouble
let server: TestServer
let alice: TestUser
const ids = new Map<string, string>()

beforeAll(async () => {
  double = await startGitHubDouble({ basePath: '/api/v3', token: 'ghp_unused' })
  const app = await double.apps.create()
  for (const name of [...REPOSITORIES, 'other/write']) double.setHead(name, 'main', sha('1'))
  double.apps.install(app, 'acme')
  alice = double.users.create('alice', {
    ...{ 'acme/read': 'read', 'acme/write': 'write', 'acme/admin': 'admin', 'other/write': 'write' },
  })
  const webUrl = double.url.replace('/api/v3', '')
  const signIn = githubSignIn({ ...app, webUrl, baseUrl: double.url, retryDelaysMs: [] })
  server = await startTestServer({ auth: OPERATOR, signIn })
  double.users.callbacks.add(`${server.url}/login/callback`)
  for (const [at, repository] of [...REPOSITORIES, 'other/write'].entries()) {
    const { build } = await server.store.accept({
      ...{ repository, sha: sha(`${at + 1}`), ref: { kind: 'branch', name: 'main' }, defaultBranch: 'main' },
      ...{ cache: true, source: { kind: 'api' } },
    })
    ids.set(repository, build.id)
  }
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await double[Symbol.asyncDispose]()
  expect(double.violations).toEqual([])
})

/** Follows redirects, and keeps cookies by host, as browsers do. */
function browser() {
  const jar = new Map<string, string>()
  const headersSet: string[] = []
  async function go(path: string, init: RequestInit = {}): Promise<Response & { at: string }> {
    let url = new URL(path, server.url).href
    for (let step = 0; step < 10; step++) {
      const isOurs = url.startsWith(server.url)
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const answer = await fetch(url, {
        ...init,
        headers: { accept: HTML, ...(isOurs && cookie && { cookie }), ...init.headers },
        redirect: 'manual',
      })
      for (const set of answer.headers.getSetCookie()) {
        headersSet.push(set)
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? []
        if (value === '') jar.delete(name)
        else jar.set(name, value)
      }
      const location = answer.headers.get('location')
      if (location === null || answer.status < 300 || answer.status > 399)
        return Object.assign(answer, { at: url })
      url = new URL(location, url).href
      init = {}
    }
    throw new Error('too many redirects')
  }
  return { jar, headersSet, go }
}

async function signedIn(user: TestUser = alice, to = '/') {
  double.users.inBrowser = user
  const it = browser()
  const answer = await it.go(`/login/github?to=${encodeURIComponent(to)}`)
  return { ...it, answer }
}

const post = (origin: string | null, accept = 'application/json') => ({
  method: 'POST',
  headers: { accept, ...(origin !== null && { origin }) },
})

describe('Sign in with GitHub', () => {
  test('a browser is sent to the sign-in, and then to where it wanted to go', async () => {
    double.users.inBrowser = alice
    const { go, jar, headersSet } = browser()
    const asked = await go('/repositories?per_page=5')
    expect(asked.at).toBe(`${server.url}/login?to=${encodeURIComponent('/repositories?per_page=5')}`)
    expect(asked.headers.get('www-authenticate')).toBeNull()
    const link = /href="(\/login\/github[^"]*)"/.exec(await asked.text())?.[1] ?? ''
    const answer = await go(link)
    expect(answer.at).toBe(`${server.url}/repositories?per_page=5`)
    expect(answer.status).toBe(200)
    expect(await answer.text()).toMatch(/<span>@alice<\/span>\s*<button type="submit">Sign out/)
    expect([...jar.keys()]).toEqual(['conveyor'])
    expect(headersSet.at(-1)).toMatch(/^conveyor=[\w-]{43}; Path=\/; Max-Age=28740; HttpOnly; SameSite=Lax$/)
    expect(server.lines).toContain('login: @alice signed in')
  })

  test('what is for the operator says so to who is signed in', async () => {
    const { go } = await signedIn()
    const answer = await go('/tokens')
    expect(answer.status).toBe(403)
    const page = await answer.text()
    expect(page).toContain('Use the login of the operator, or a token.')
    expect(page).toMatch(/<span>@alice<\/span>\s*<button type="submit">Sign out/)
  })

  test('somebody sees what they can read on GitHub, and nothing else', async () => {
    const { go } = await signedIn()
    const json = { headers: { accept: 'application/json' } }
    const seen = (await (await go('/repositories', json)).json()) as { repositories: { name: string }[] }
    expect(seen.repositories.map(({ name }) => name).sort()).toEqual([
      'acme/admin',
      'acme/read',
      'acme/write',
    ])
    for (const name of ['acme/closed', 'other/write']) {
      expect((await go(`/builds/${ids.get(name)}`, json)).status).toBe(404)
    }
    expect((await go(`/builds/${ids.get('acme/read')}`, json)).status).toBe(200)
    expect((await go('/tokens', json)).status).toBe(403)
    expect((await go('/metrics', json)).status).toBe(404)
  })

  test.each<[string, number, boolean]>([
    ['acme/read', 404, false],
    ['acme/closed', 404, false],
    ['acme/write', 200, true],
    ['acme/admin', 200, true],
  ])('who may write to a repository on GitHub may cancel its builds: %s', async (name, status, mayBuild) => {
    const { go } = await signedIn()
    const page = await (await go(`/builds/${ids.get(name)}`)).text()
    expect(page.includes('/cancel"')).toBe(mayBuild)
    const answer = await go(`/builds/${ids.get(name)}/cancel`, post(server.url))
    expect(answer.status).toBe(status)
    if (mayBuild) expect((await server.store.get(ids.get(name) ?? ''))?.cancel?.by).toBe('@alice')
  })

  test('a session changes nothing without the origin of this server', async () => {
    const { go } = await signedIn()
    for (const origin of [null, 'https://evil.example', 'null']) {
      const refused = await go(`/builds/${ids.get('acme/write')}/retry`, post(origin))
      expect([origin, refused.status]).toEqual([origin, 403])
      expect([origin, (await go('/logout', post(origin))).status]).toEqual([origin, 403])
    }
    expect((await go('/repositories')).status).toBe(200)
  })

  test('signing out ends the session, also for who has copied the cookie', async () => {
    const { go, jar } = await signedIn()
    const copy = jar.get('conveyor') ?? ''
    const out = await go('/logout', post(server.url, HTML))
    expect(out.at).toBe(`${server.url}/login`)
    expect(jar.size).toBe(0)
    const again = await fetch(`${server.url}/builds`, {
      headers: { cookie: `conveyor=${copy}`, accept: 'application/json' },
    })
    expect(again.status).toBe(401)
  })

  test('who has access to nothing here is told so, and who refuses stays outside', async () => {
    const mallory = double.users.create('mallory', { 'elsewhere/app': 'admin' })
    const { answer, jar } = await signedIn(mallory)
    expect(answer.status).toBe(403)
    expect(await answer.text()).toContain('@mallory has access to none of the repositories here')
    expect(jar.size).toBe(0)
    double.users.inBrowser = null
    const refused = browser()
    expect((await refused.go('/login/github')).status).toBe(400)
    expect(refused.jar.size).toBe(0)
  })

  test('a sign-in has to end in the browser in which it began', async () => {
    double.users.inBrowser = alice
    const [mine, other] = [browser(), browser()]
    const begun = await fetch(`${server.url}/login/github`, {
      ...{ headers: { accept: HTML }, redirect: 'manual' as const },
    })
    const callback = await fetch(begun.headers.get('location') ?? '', { redirect: 'manual' })
    const url = callback.headers.get('location') ?? ''
    expect(url).toContain('code=')
    // Without the cookie, and with that of another sign-in.
    expect((await mine.go(url)).status).toBe(400)
    await other.go('/login/github')
    expect((await other.go(url)).status).toBe(400)
  })

  test('it leads only to paths of this server', async () => {
    const { answer } = await signedIn(alice, '//evil.example')
    expect(answer.at).toBe(`${server.url}/`)
    for (const to of ['/', '/builds?branch=a%2Fb', '/builds/acme/web@0123456']) expect(localPath(to)).toBe(to)
    const evil = [
      '//e.example',
      '/\\e.example',
      'https://e.example',
      'x',
      '/a b',
      '/\t/x',
      `/${'x'.repeat(600)}`,
    ]
    for (const to of [...evil, '', null, ['/']]) expect(localPath(to)).toBe('/')
  })

  test('programs are asked for a token or login as before; scripts of pages for none', async () => {
    const asked = await fetch(`${server.url}/builds`, { headers: { accept: 'application/json' } })
    expect(asked.status).toBe(401)
    expect(asked.headers.get('www-authenticate')).toContain('Basic')
    const script = await fetch(`${server.url}/builds`, {
      headers: { accept: 'application/json', 'sec-fetch-site': 'same-origin' },
    })
    expect([script.status, script.headers.get('www-authenticate')]).toEqual([401, null])
    const operator = await fetch(`${server.url}/login-as-operator`, { headers: { accept: HTML } })
    expect(operator.headers.get('www-authenticate')).toContain('Basic')
    const { go } = browser()
    const basic = `Basic ${btoa(`${OPERATOR.username}:${OPERATOR.password}`)}`
    const page = await go('/login-as-operator', { headers: { authorization: basic } })
    expect(page.at).toContain('/login?to=') // Without what the browser would send again, it is asked once more.
  })

  test('no token of GitHub is in the store or in the log', async () => {
    await signedIn()
    expect(double.users.tokens.size).toBeGreaterThan(0)
    for (const token of double.users.tokens.keys()) expect(server.lines.join('\n')).not.toContain(token)
  })

  test('an address signs in at most 20 times a minute', async () => {
    double.users.inBrowser = alice
    const asked = double.users.tokens.size
    const { go } = browser()
    const statuses: number[] = []
    while (statuses.length < 25) statuses.push((await go('/login/github')).status)
    expect(statuses.at(-1)).toBe(429)
    expect(double.users.tokens.size - asked).toBeLessThanOrEqual(20)
  })
})

describe('what somebody may do', () => {
  const roles = (entries: Record<string, Scope>) => new Map(Object.entries(entries))

  async function person(look: () => Promise<ReadonlyMap<string, Scope>>) {
    let now = 0
    const signIn = { url: () => '', finish: async () => Promise.reject(new Error('unused')), roles: look }
    const people = new People({
      ...{ signIn, sessions: server.store.sessions, baseUrl: () => 'https://c.example' },
      ...{ log: () => {}, now: () => now },
    })
    const cookie = await people.start({
      person: { id: 1, login: 'bob' },
      token: 'ghu_x',
      expiresInSeconds: null,
    })
    const request = { headers: { cookie: cookie.split(';')[0] } } as never
    return {
      cookie,
      identity: () => people.identityOf(request),
      later: (minutes: number) => {
        now += minutes * 60_000
      },
    }
  }

  test('is asked for every five minutes, and once for all requests that wait', async () => {
    let asked = 0
    let current = roles({ 'acme/app': 'build' })
    const { cookie, identity, later } = await person(async () => {
      asked += 1
      return current
    })
    expect(cookie).toMatch(
      /^__Host-conveyor=[\w-]{43}; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure$/,
    )
    current = roles({ 'acme/other': 'read' })
    later(4)
    expect((await identity())?.repositories).toEqual(['acme/app'])
    later(2)
    const all = await Promise.all([identity(), identity(), identity()])
    for (const one of all)
      expect(one).toMatchObject({ name: '@bob', repositories: ['acme/other'], scopes: ['read'] })
    expect(asked).toBe(2)
  })

  test('stays known for an hour while GitHub does not answer, and ends at once with the token', async () => {
    const { ConveyorError } = await import('../../../src/lib/core/errors.ts')
    let fails: 'unavailable' | 'unauthorized' | null = null
    const { identity, later } = await person(async () => {
      if (fails) throw new ConveyorError(fails, 'no')
      return roles({ 'acme/app': 'admin' })
    })
    fails = 'unavailable'
    later(30)
    expect(await identity()).toMatchObject({ scopes: ['read', 'build', 'admin'] })
    later(40)
    await expect(identity()).rejects.toMatchObject({ kind: 'unavailable' })
    fails = 'unauthorized'
    expect(await identity()).toBeNull()
    fails = null
    expect(await identity()).toBeNull()
  })

  test('a session key that nobody was given is nobody', async () => {
    const { go, jar } = browser()
    jar.set('conveyor', newSessionKey())
    expect((await go('/builds')).at).toContain('/login')
  })
})
