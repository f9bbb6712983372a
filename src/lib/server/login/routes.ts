import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ConveyorError } from '../../core/errors.ts'
import type { SignIn } from '../../forge/sign-in.ts'
import { cookieHeader, readCookie } from '../access/cookies.ts'
import type { AccessOptions } from '../access/options.ts'
import type { People } from '../access/people.ts'
import { isSameOrigin, parseHost } from '../access/requests.ts'
import { sendPage } from '../pages/layout.ts'
import { sendProblem } from '../problems.ts'
import { loginPage } from './page.ts'

const FLOW_COOKIE = 'conveyor-login'
/** GitHub's codes are valid for as long. */
const FLOW_S = 600
/** Sign-ins of an address: each makes the server ask GitHub. */
const MOST_ATTEMPTS = { max: 20, timeWindow: 60_000 }
const LONGEST_PATH = 500

interface LoginOptions extends AccessOptions {
  signIn: SignIn
  people: People
  log: (line: string) => void
}

/** A sign-in under way, as the browser keeps it. */
interface Flow {
  state: string
  verifier: string
  /** Where the person goes afterwards: a path here. */
  to: string
}

/** GET /login, /login/github, /login/callback, /login-as-operator, and POST /logout. */
export async function loginRoutes(app: FastifyInstance, options: LoginOptions): Promise<void> {
  const { signIn, people, log, baseUrl } = options
  const limit = app.createRateLimit(MOST_ATTEMPTS)
  const open = { config: { public: true }, schema: { hide: true } } as const
  const redirectUri = () => `${baseUrl()}/login/callback`

  /** Seconds to wait for the next sign-in; 0 if one is due. */
  const waitOf = async (request: FastifyRequest): Promise<number> => {
    const state = await limit(request)
    return !state.isAllowed && state.isExceeded ? state.ttlInSeconds : 0
  }

  app.get('/login', open, async (request, reply) => {
    const hasOperator = options.auth !== null && options.auth !== 'none'
    return sendPage(reply, app.site(), loginPage(app.site(), wanted(request), hasOperator))
  })

  app.get('/login/github', open, async (request, reply) => {
    const flow = { state: random(), verifier: random(), to: wanted(request) }
    const challenge = createHash('sha256').update(flow.verifier).digest('base64url')
    reply.header('set-cookie', cookieHeader(FLOW_COOKIE, written(flow), FLOW_S, baseUrl()))
    return reply.redirect(signIn.url({ state: flow.state, challenge, redirectUri: redirectUri() }), 303)
  })

  app.get('/login/callback', open, async (request, reply) => {
    const { code, state } = request.query as { code?: unknown; state?: unknown }
    const flow = readFlow(readCookie(request.raw, FLOW_COOKIE, baseUrl()))
    reply.header('set-cookie', cookieHeader(FLOW_COOKIE, '', 0, baseUrl()))
    if (flow === null || typeof state !== 'string' || !isSame(state, flow.state)) {
      const hint = 'Sign in again, in the window in which you began'
      return sendProblem(
        reply,
        400,
        'invalid',
        'This sign-in did not begin in this browser, or is over',
        hint,
      )
    }
    if (typeof code !== 'string' || code === '' || code.length > 500) {
      return sendProblem(reply, 400, 'invalid', 'GitHub did not sign you in', 'Sign in again')
    }
    const wait = await waitOf(request)
    if (wait > 0) {
      reply.header('retry-after', wait)
      const message = 'Too many sign-ins from this address'
      return sendProblem(reply, 429, 'too_many_requests', message, `Try again in ${wait} s`)
    }
    try {
      const signedIn = await signIn.finish({ code, verifier: flow.verifier, redirectUri: redirectUri() })
      // Whoever was signed in before no longer is.
      await people.end(request.raw)
      reply.header('set-cookie', await people.start(signedIn))
      log(`login: @${signedIn.person.login} signed in`)
    } catch (error) {
      if (!(error instanceof ConveyorError) || error.kind !== 'unauthorized') throw error
      log(`login: ${error.message}`)
      return sendProblem(reply, 403, 'forbidden', error.message, error.hint)
    }
    return reply.redirect(`${app.site().path}${flow.to}`, 303)
  })

  // The browser asks for the login of --auth, and then sends it with every request.
  const operator = { config: { scope: 'read', challenge: true }, schema: { hide: true } } as const
  app.get('/login-as-operator', operator, async (_request, reply) =>
    reply.redirect(`${app.site().path}/builds`, 303),
  )

  app.post('/logout', open, async (request, reply) => {
    const { raw } = request
    if (raw.headers.origin === undefined || !isSameOrigin(raw, parseHost(raw.headers.host), options)) {
      return sendProblem(reply, 403, 'forbidden', 'Cross-site requests are not allowed')
    }
    reply.header('set-cookie', await people.end(raw))
    return reply.redirect(`${app.site().path}/login`, 303)
  })
}

function wanted({ query }: FastifyRequest): string {
  return localPath((query as { to?: unknown }).to)
}

/** A path of this server, to go to after the sign-in; `/` for anything that is not plainly one. */
export function localPath(to: unknown): string {
  if (typeof to !== 'string' || to.length > LONGEST_PATH) return '/'
  // Browsers take `//host` and `/\host` for another server's address, and remove control characters before.
  return /^\/(?![/\\])[\x21-\x5b\x5d-\x7e]*$/.test(to) ? to : '/'
}

function random(): string {
  return randomBytes(32).toString('base64url')
}

function written({ state, verifier, to }: Flow): string {
  return [state, verifier, Buffer.from(to).toString('base64url')].join('.')
}

function readFlow(cookie: string | null): Flow | null {
  const [, state, verifier, to] = /^([\w-]{43})\.([\w-]{43})\.([\w-]{1,700})$/.exec(cookie ?? '') ?? []
  if (state === undefined || verifier === undefined || to === undefined) return null
  const path = Buffer.from(to, 'base64url').toString()
  return { state, verifier, to: localPath(path) }
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
