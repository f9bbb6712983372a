import { createPublicKey, createVerify, type KeyObject, randomBytes } from 'node:crypto'
import { type Answer, problem, type RecordedRequest } from '../protocol.ts'
import type { GitHubSchema, Operation } from '../schema.ts'
import type { Serve } from '../serve.ts'
import { keyOf } from './keys.ts'

/**
 * GitHub Apps, as GitHub plays them: JWTs and installation tokens are really checked.
 * https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
 */

type Permissions = Record<string, string>

export interface TestApp {
  id: number
  clientId: string
  clientSecret: string
  /** PEM, as GitHub gives it. */
  privateKey: string
  name: string
  permissions: Permissions
  events: string[]
  /** The variables that make Conveyor this App. */
  env: Record<string, string>
}

export interface TestInstallation {
  id: number
  app: TestApp
  /** User or organization. */
  account: string
  /** Full names; all of the account by default. */
  repositories: string[] | 'all'
  permissions: Permissions
  isSuspended: boolean
  isRemoved: boolean
}

/** A token that was issued. */
export interface IssuedToken {
  token: string
  installation: TestInstallation
  /** Full names in lower case; null for all of the installation. */
  repositories: string[] | null
  permissions: Permissions
  /** Milliseconds since 1970. */
  expiresAt: number
}

/** GitHub's tokens of 2026 are this long, and contain dots. */
const TOKEN_LENGTH = 520
const HOUR_MS = 3_600_000

/** What operations need, by the permissions that GitHub documents for them; all others need only `metadata: read`. */
const NEEDS: [method: RegExp, path: RegExp, permission: string][] = [
  [/POST/, /\/statuses\//, 'statuses'],
  [/GET|POST|PATCH/, /\/(check-runs|check-suites)/, 'checks'],
  [/GET/, /\/(contents|compare|git)\//, 'contents'],
  [/GET/, /\/pulls/, 'pull_requests'],
  [/POST|PATCH|DELETE|GET/, /\/hooks/, 'repository_hooks'],
]

export class TestApps {
  readonly apps: TestApp[] = []
  readonly installations: TestInstallation[] = []
  readonly tokens: IssuedToken[] = []
  /** How far GitHub's clock is ahead, in milliseconds. */
  skewMs = 0
  /** Full names in lower case of the repositories that only those with access see. */
  readonly #private: ReadonlySet<string>
  readonly #violations: string[]

  constructor(hidden: ReadonlySet<string>, violations: string[]) {
    this.#private = hidden
    this.#violations = violations
  }

  now(): number {
    return Date.now() + this.skewMs
  }

  async create(options: Partial<Pick<TestApp, 'name' | 'permissions' | 'events'>> = {}): Promise<TestApp> {
    const number = this.apps.length
    const privateKey = await keyOf(number)
    const id = 1000 + number
    const app: TestApp = {
      id,
      clientId: `Iv23li${randomBytes(7).toString('hex')}`,
      clientSecret: randomBytes(20).toString('hex'),
      privateKey,
      name: options.name ?? 'Conveyor',
      permissions: options.permissions ?? {
        metadata: 'read',
        contents: 'read',
        statuses: 'write',
        checks: 'write',
        pull_requests: 'read',
      },
      events: options.events ?? ['push'],
      env: { GITHUB_APP_ID: String(id), GITHUB_PRIVATE_KEY: privateKey, GITHUB_TOKEN: '' },
    }
    this.apps.push(app)
    return app
  }

  install(app: TestApp, account: string, options: Partial<TestInstallation> = {}): TestInstallation {
    const installation: TestInstallation = {
      ...{ id: 5000 + this.installations.length, app, account },
      ...{ repositories: 'all', permissions: app.permissions, isSuspended: false, isRemoved: false },
      ...options,
    }
    this.installations.push(installation)
    return installation
  }

  /** The installation of an App on a repository. */
  on(app: TestApp, repository: string): TestInstallation | undefined {
    return this.installations.find((one) => one.app === app && !one.isRemoved && covers(one, repository))
  }

  /** The App that signed a request's JWT, or GitHub's refusal. */
  signer(request: Pick<RecordedRequest, 'headers'>): TestApp | Answer {
    const given = tokenIn(request)
    if (given === undefined) return problem(401, 'A JSON web token could not be decoded')
    const [head = '', body = '', signature = ''] = given.split('.')
    const { alg } = decoded(head)
    const { iss, exp, iat } = decoded(body)
    const app = this.apps.find(({ id, clientId }) => String(iss) === String(id) || iss === clientId)
    if (!app) return problem(404, 'Integration not found')
    const key = createPublicKey(app.privateKey)
    if (alg !== 'RS256' || !isSigned(key, `${head}.${body}`, signature)) {
      return problem(401, 'A JSON web token could not be decoded')
    }
    const seconds = this.now() / 1000
    if (typeof exp !== 'number' || exp <= seconds) return problem(401, EXPIRED)
    if (exp > seconds + 600) return problem(401, TOO_FAR)
    if (typeof iat !== 'number' || iat > seconds + 1) return problem(401, ISSUED_LATER)
    return app
  }

  /** @returns the token, or GitHub's refusal */
  issue(
    installation: TestInstallation,
    wanted: { repositories?: string[]; permissions?: Permissions },
    exists: (repository: string) => boolean,
  ): IssuedToken | Answer {
    if (installation.isSuspended) return problem(403, 'This installation has been suspended')
    const names = wanted.repositories?.map((name) => `${installation.account}/${name}`) ?? null
    if (names?.some((name) => !covers(installation, name) || !exists(name))) {
      return refusal(
        'There is at least one repository that does not exist or is not accessible to the parent installation.',
      )
    }
    const permissions = wanted.permissions ?? installation.permissions
    const excess = Object.entries(permissions).some(
      ([name, level]) => !isAtLeast(installation.permissions[name], level),
    )
    if (excess) return refusal('The permissions requested are not granted to this installation.')
    if (names === null || wanted.permissions === undefined) {
      this.#violations.push('a token was requested for more than one repository and its needs')
    }
    const issued: IssuedToken = {
      token: newToken(),
      installation,
      repositories: names?.map((name) => name.toLowerCase()) ?? null,
      // GitHub adds it to every token.
      permissions: { ...permissions, metadata: 'read' },
      expiresAt: this.now() + HOUR_MS,
    }
    this.tokens.push(issued)
    return issued
  }

  /** A token that is valid now. */
  find(token: string): IssuedToken | undefined {
    const issued = this.tokens.find((one) => one.token === token)
    const isValid = issued && issued.expiresAt > this.now() && !issued.installation.isRemoved
    return isValid && !issued.installation.isSuspended ? issued : undefined
  }

  /** Makes all tokens that were issued so far invalid, as if their hour were over. */
  expireTokens(): void {
    for (const one of this.tokens) one.expiresAt = 0
  }

  /** Whether git may read a repository with this password. */
  mayRead(token: string, repository: string): boolean {
    const issued = this.find(token)
    return issued !== undefined && isFor(issued, repository) && issued.permissions.contents !== undefined
  }

  /** GitHub's refusal of a request with a JWT or an installation token, or null. */
  denial(request: RecordedRequest, operation: Operation | undefined, repository: string): Answer | null {
    const given = tokenIn(request) ?? ''
    if (!given.startsWith('ghs_')) {
      const signer = this.signer(request)
      if (isAnswer(signer)) return signer
      const isForApps = /^\/app\b|\/installation$/.test(operation?.path ?? '')
      return isForApps ? null : problem(401, 'A JSON web token is not accepted here')
    }
    const issued = this.find(given)
    if (!issued) return problem(401, 'Bad credentials')
    if (!operation?.path.startsWith('/repos/')) {
      return operation?.path === '/' ? null : problem(403, 'Resource not accessible by integration')
    }
    const isPrivate = this.#private.has(repository.toLowerCase())
    if (!isFor(issued, repository)) {
      if (isPrivate) return problem(404, 'Not Found')
      return operation.method === 'GET' ? null : problem(403, 'Resource not accessible by integration')
    }
    const [, , needed = 'metadata'] =
      NEEDS.find(([method, path]) => method.test(operation.method) && path.test(operation.path)) ?? []
    const level = operation.method === 'GET' ? 'read' : 'write'
    return isAtLeast(issued.permissions[needed], level)
      ? null
      : problem(403, 'Resource not accessible by integration')
  }

  /** @param nameOf the name of a repository in its original case; null if it does not exist */
  routes(schema: GitHubSchema, nameOf: (repository: string) => string | null): [Operation, Serve][] {
    const asApp =
      (serve: (app: TestApp, ...about: Parameters<Serve>) => Answer): Serve =>
      (...about) => {
        const app = this.signer(about[0])
        return isAnswer(app) ? app : serve(app, ...about)
      }
    const described = (one: TestInstallation, example: object) => {
      const { account, ...shown } = example as { account: object }
      const suspended_at = one.isSuspended ? new Date(this.now()).toISOString() : null
      const repository_selection = one.repositories === 'all' ? 'all' : 'selected'
      return {
        ...shown,
        ...{ id: one.id, account: { ...account, login: one.account }, permissions: one.permissions },
        ...{ repository_selection, suspended_at, app_id: one.app.id, events: one.app.events },
      }
    }
    const installationExample = () =>
      schema.operation('GET', '/app/installations/{installation_id}').example(200)
    const ofId = (app: TestApp, { installation_id = '' }: Record<string, string>) =>
      this.installations.find(
        (one) => String(one.id) === installation_id && one.app === app && !one.isRemoved,
      )

    const getApp = asApp(({ id, clientId, name, permissions, events }, _about, _body, example) => ({
      kind: 200,
      body: { ...example(200), id, client_id: clientId, name, slug: name.toLowerCase(), permissions, events },
    }))
    const list = asApp((app) => ({
      kind: 200,
      body: this.installations
        .filter((one) => one.app === app && !one.isRemoved)
        .map((one) => described(one, installationExample()))
        // The description wants every account of this list to be a user and an enterprise at once.
        .map(({ account, ...one }) => ({ ...one, account: { ...account, ...ENTERPRISE } })),
    }))
    const get = asApp((app, { params }) => {
      const found = ofId(app, params)
      return found ? { kind: 200, body: described(found, installationExample()) } : problem(404, 'Not Found')
    })
    const ofRepository = asApp((app, { repository }) => {
      const found = nameOf(repository) === null ? undefined : this.on(app, repository)
      return found ? { kind: 200, body: described(found, installationExample()) } : problem(404, 'Not Found')
    })
    const createToken = asApp((app, { params }, body, example) => {
      const found = ofId(app, params)
      if (!found) return problem(404, 'Not Found')
      const issued = this.issue(found, (body ?? {}) as object, (name) => nameOf(name) !== null)
      if (isAnswer(issued)) return issued
      const { token, permissions, expiresAt } = issued
      const expires_at = new Date(expiresAt).toISOString().replace(/\.\d+Z/, 'Z')
      const { repositories: _, ...shown } = example(201)
      return { kind: 201, body: { ...shown, token, permissions, expires_at } }
    })
    return [
      [schema.operation('GET', '/app'), getApp],
      [schema.operation('GET', '/app/installations'), list],
      [schema.operation('GET', '/app/installations/{installation_id}'), get],
      [schema.operation('GET', '/repos/{owner}/{repo}/installation'), ofRepository],
      [schema.operation('POST', '/app/installations/{installation_id}/access_tokens'), createToken],
    ]
  }
}

const ENTERPRISE = { name: 'Acme', slug: 'acme', created_at: null, updated_at: null }

function tokenIn({ headers }: Pick<RecordedRequest, 'headers'>): string | undefined {
  return /^(?:token|bearer) (.+)$/i.exec(headers.authorization ?? '')?.[1]
}

function isAnswer(value: object): value is Answer {
  return 'kind' in value
}

/** Whether a request is that of an App or of one of its installations. */
export function isOfApp(
  { headers: { authorization = '' } }: RecordedRequest,
  token: string | undefined,
): boolean {
  return /^(token ghs_|bearer ey)/i.test(authorization) && authorization !== `token ${token}`
}

const EXPIRED =
  "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
const TOO_FAR = "'Expiration time' claim ('exp') is too far in the future"
const ISSUED_LATER =
  "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"

function refusal(message: string): Answer {
  return { kind: 422, body: { message, documentation_url: 'https://docs.github.com/rest', status: '422' } }
}

function covers({ account, repositories }: TestInstallation, repository: string): boolean {
  const name = repository.toLowerCase()
  if (name.split('/')[0] !== account.toLowerCase()) return false
  return repositories === 'all' || repositories.some((one) => one.toLowerCase() === name)
}

function isFor({ repositories, installation }: IssuedToken, repository: string): boolean {
  if (repositories !== null) return repositories.includes(repository.toLowerCase())
  return covers(installation, repository)
}

function isAtLeast(has: string | undefined, level: string): boolean {
  const order = ['read', 'write', 'admin']
  return has !== undefined && order.indexOf(has) >= order.indexOf(level)
}

function decoded(part: string): Record<string, unknown> {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString())
  } catch {
    return {}
  }
}

function isSigned(key: KeyObject, text: string, signature: string): boolean {
  return createVerify('RSA-SHA256').update(text).verify(key, Buffer.from(signature, 'base64url'))
}

/** `ghs_` and a JWT. */
function newToken(): string {
  const head = Buffer.from('{"alg":"ES256","typ":"JWT"}').toString('base64url')
  const signature = randomBytes(64).toString('base64url')
  const bodyLength = TOKEN_LENGTH - 'ghs_..'.length - head.length - signature.length
  return `ghs_${head}.${randomBytes(400).toString('base64url').slice(0, bodyLength)}.${signature}`
}
