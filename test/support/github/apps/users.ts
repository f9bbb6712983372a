import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { RATE } from '../limits.ts'
import { problem, type RecordedRequest } from '../protocol.ts'
import type { GitHubSchema, Operation } from '../schema.ts'
import type { Serve } from '../serve.ts'
import type { TestApp, TestApps } from './apps.ts'

/**
 * People at GitHub: the web flow through which they sign in to an App, and what their tokens show.
 * https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
 */

type Access = 'read' | 'write' | 'admin'

export interface TestUser {
  id: number
  login: string
  /** By full name in lower case. */
  access: Map<string, Access>
}

interface Code {
  app: TestApp
  user: TestUser
  redirectUri: string
  challenge: string
}

interface UserToken {
  app: TestApp
  user: TestUser
}

export class TestUsers {
  /** Who is signed in to GitHub in the browser; null: they refuse the App. */
  inBrowser: TestUser | null = null
  /** Where an App may send people back to. */
  readonly callbacks = new Set<string>()
  readonly tokens = new Map<string, UserToken>()
  readonly #users: TestUser[] = []
  readonly #codes = new Map<string, Code>()
  readonly #apps: TestApps
  readonly #violations: string[]

  constructor(apps: TestApps, violations: string[]) {
    this.#apps = apps
    this.#violations = violations
  }

  /** @param access by full name */
  create(login: string, access: Record<string, Access>): TestUser {
    const entries = Object.entries(access).map(([name, level]) => [name.toLowerCase(), level] as const)
    const user = { id: 70_000 + this.#users.length, login, access: new Map(entries) }
    this.#users.push(user)
    return user
  }

  ofToken({ headers }: Pick<RecordedRequest, 'headers'>): UserToken | undefined {
    return this.tokens.get(/^(?:token|bearer) (.+)$/i.exec(headers.authorization ?? '')?.[1] ?? '')
  }

  /** The pages at /login/oauth. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://github')
    if (request.method === 'GET' && url.pathname === '/login/oauth/authorize') {
      const location = this.#authorize(url.searchParams)
      response.writeHead(location === null ? 404 : 302, location === null ? {} : { location }).end()
      return
    }
    if (request.method === 'POST' && url.pathname === '/login/oauth/access_token') {
      const answer = this.#exchange((await json(request)) as Record<string, unknown>)
      // GitHub answers 200 to mistakes, too.
      response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' })
      response.end(JSON.stringify(answer))
      return
    }
    response.writeHead(404).end()
  }

  /** @param scopes of the token that is nobody's */
  routes(schema: GitHubSchema, scopes = 'repo, workflow'): [Operation, Serve][] {
    const asUser =
      (serve: (token: UserToken, ...about: Parameters<Serve>) => ReturnType<Serve>): Serve =>
      (...about) => {
        const token = this.ofToken(about[0])
        return token ? serve(token, ...about) : problem(403, 'You must authenticate with an access token')
      }
    const covered = ({ app, user }: UserToken) =>
      this.#apps.installations
        .filter((one) => one.app === app && !one.isRemoved && !one.isSuspended)
        .map((installation) => ({
          installation,
          names: [...user.access.keys()].filter((name) => this.#apps.on(app, name) === installation),
        }))
        .filter(({ names }) => names.length > 0)
    const installations = asUser((token, _about, _body, example) => {
      const [shown = {}] = (example(200).installations ?? []) as object[]
      const found = covered(token).map(({ installation }) => ({ ...shown, id: installation.id }))
      return { kind: 200, body: { total_count: found.length, installations: found } }
    })
    const repositories = asUser((token, { params, query }, _body, example) => {
      const found = covered(token).find(
        ({ installation }) => String(installation.id) === params.installation_id,
      )
      if (!found) return problem(404, 'Not Found')
      const [perPage, page] = [Number(query.get('per_page') ?? 30), Number(query.get('page') ?? 1)]
      const [shown = {}] = (example(200).repositories ?? []) as object[]
      const listed = found.names.slice((page - 1) * perPage, page * perPage).map((full_name) => {
        const level = token.user.access.get(full_name)
        const [push, admin] = [level !== 'read', level === 'admin']
        const permissions = { pull: true, triage: push, push, maintain: admin, admin }
        return { ...shown, full_name, name: full_name.split('/')[1], permissions }
      })
      return { kind: 200, body: { total_count: found.names.length, repositories: listed } }
    })
    const get: Serve = (about, _body, example) => {
      const person = this.ofToken(about)?.user
      const who = person && { id: person.id, login: person.login }
      const headers = { ...RATE, 'x-oauth-scopes': person ? '' : scopes }
      return { kind: 200, headers, body: { ...example(200), ...who } }
    }
    return [
      [schema.operation('GET', '/user'), get],
      [schema.operation('GET', '/user/installations'), installations],
      [schema.operation('GET', '/user/installations/{installation_id}/repositories'), repositories],
    ]
  }

  #authorize(query: URLSearchParams): string | null {
    const given = (name: string) => query.get(name) ?? ''
    const app = this.#apps.apps.find(({ clientId }) => clientId === given('client_id'))
    const redirectUri = given('redirect_uri')
    if (!app || !this.callbacks.has(redirectUri)) {
      this.#violations.push(`sign-in of the client ${given('client_id')} with the callback ${redirectUri}`)
      return null
    }
    if (given('state').length < 20 || given('code_challenge_method') !== 'S256') {
      this.#violations.push('sign-in without state or PKCE')
    }
    const back = new URL(redirectUri)
    back.searchParams.set('state', given('state'))
    if (this.inBrowser === null) {
      back.searchParams.set('error', 'access_denied')
      return back.href
    }
    const code = randomBytes(10).toString('hex')
    this.#codes.set(code, { app, user: this.inBrowser, redirectUri, challenge: given('code_challenge') })
    back.searchParams.set('code', code)
    return back.href
  }

  #exchange(body: Record<string, unknown>): Record<string, unknown> {
    const code = this.#codes.get(String(body.code))
    // It is good for one try.
    this.#codes.delete(String(body.code))
    const challenge = createHash('sha256').update(String(body.code_verifier)).digest('base64url')
    const isRight =
      code?.app.clientId === body.client_id &&
      code?.redirectUri === body.redirect_uri &&
      code?.challenge === challenge
    if (!code || !isRight) {
      return { error: 'bad_verification_code', error_description: 'The code passed is incorrect or expired.' }
    }
    if (code.app.clientSecret !== body.client_secret) return { error: 'incorrect_client_credentials' }
    const token = `ghu_${randomBytes(27).toString('base64url')}`
    this.tokens.set(token, { app: code.app, user: code.user })
    return { access_token: token, expires_in: 28_800, token_type: 'bearer', scope: '' }
  }
}
