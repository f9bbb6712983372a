import { createHash } from 'node:crypto'
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SCOPES } from '../../core/access/access-token.ts'
import type { Sessions } from '../../core/access/session.ts'
import { keepNewest } from '../../util/collections/keep-newest.ts'
import { KeyedMutex } from '../../util/locks/keyed-mutex.ts'
import { prefersHtml } from '../accept.ts'
import { sendProblem } from '../problems.ts'
import { Admission, type AdmissionOptions, type FailedLogins, type Refusal } from './admission.ts'
import { type GuardedRoute, type Identity, NOBODY, narrowedTo } from './identity.ts'
import type { SignInOptions } from './options.ts'
import { People } from './people.ts'

const MOST_FAILED_LOGINS = 10
const FAILED_LOGINS_WINDOW_MS = 60_000
/** The address that failed longest ago is forgotten first. */
const MOST_ADDRESSES = 10_000

const PROBLEMS = { 401: 'unauthorized', 403: 'forbidden', 429: 'too_many_requests' } as const
const CHALLENGES = ['Basic realm="conveyor", charset="UTF-8"', 'Bearer realm="conveyor"']

/**
 * Lets only those use a route of `app` who have its scope, and tells the route who asks: `request.identity`. For routes
 * that are added later.
 * @returns the people who can sign in; null if nobody can
 */
export async function guard(
  app: FastifyInstance,
  options: Omit<AdmissionOptions, 'tokens' | 'people'> &
    SignInOptions & { store: { tokens: AdmissionOptions['tokens']; sessions: Sessions } },
): Promise<People | null> {
  const { signIn, store, baseUrl, log } = options
  const people = signIn ? new People({ signIn, sessions: store.sessions, baseUrl, log }) : null
  const admission = new Admission({ ...options, tokens: store.tokens, people })
  await app.register(rateLimit, {
    global: false,
    max: MOST_FAILED_LOGINS,
    timeWindow: FAILED_LOGINS_WINDOW_MS,
    cache: MOST_ADDRESSES,
  })
  const limit = app.createRateLimit()
  const attempts = new KeyedMutex()
  const repeats = new LastFailures()
  const failedLogins = (request: FastifyRequest): FailedLogins => ({
    inTurn: (attempt) => attempts.run(request.ip, attempt),
    async wait() {
      const state = await limit(request, { increment: false })
      return !state.isAllowed && state.remaining === 0 ? state.ttlInSeconds : 0
    },
    async add() {
      // A program that keeps sending the same wrong password guesses nothing, and must not lock out its neighbours.
      if (repeats.has(request.ip, request.headers.authorization ?? '')) return
      await limit(request)
    },
  })

  app.decorate('stillAdmits', (request: FastifyRequest) =>
    admission.stillAdmits(request.raw, request.identity),
  )

  const guarded: GuardedRoute[] = []
  app.decorate('guarded', guarded)
  app.addHook('onRoute', ({ method, url, config }) => {
    const access = config?.public ? 'public' : (config?.scope ?? 'none')
    for (const one of [method].flat()) guarded.push({ method: one, url, access })
  })

  app.decorateRequest('identity')
  app.addHook('onRequest', async (request, reply) => {
    request.identity = NOBODY
    const isPublic = request.routeOptions.config.public
    if (isPublic === true) return
    const admitted = await admission.admit(request.raw, failedLogins(request))
    if ('status' in admitted) return isPublic ? undefined : refuse(reply, admitted)
    const refusal = request.is404 || isPublic ? null : lacking(request, admitted)
    if (refusal !== null) {
      // Its page says who is signed in.
      request.identity = { ...admitted, repositories: [], ...(admitted.roles && { roles: new Map() }) }
      return sendRefusal(reply, refusal)
    }
    request.identity = narrowedTo(request.routeOptions.config.scope ?? 'read', admitted)
  })

  /** Where people sign in, a browser is sent there, and never asks for a password itself. */
  function refuse(reply: FastifyReply, refusal: Refusal): FastifyReply {
    const { method, url, headers, routeOptions } = reply.request
    if (refusal.status !== 401 || !people || routeOptions.config.challenge) return sendRefusal(reply, refusal)
    if (method === 'GET' && prefersHtml(headers.accept)) {
      const to = url === '/' ? '' : `?to=${encodeURIComponent(url)}`
      return reply.redirect(`${reply.server.site().path}/login${to}`, 303)
    }
    return sendRefusal(reply, refusal, headers['sec-fetch-site'] === undefined)
  }
  return people
}

/** What failed last, by address. */
class LastFailures {
  readonly #digests = new Map<string, string>()

  /** Whether the same failed last time; remembers it. */
  has(address: string, authorization: string): boolean {
    const digest = createHash('sha256').update(authorization).digest('base64')
    const isSame = this.#digests.get(address) === digest
    keepNewest(this.#digests, address, digest, MOST_ADDRESSES)
    return isSame
  }
}

/** Why somebody may not use a route, or null. */
function lacking(
  { routeOptions }: FastifyRequest,
  { name, scopes, repositories, roles }: Identity,
): Refusal | null {
  const { scope, allRepositories } = routeOptions.config
  if (scope === undefined) return { status: 403, message: 'Nobody may use this route: it has no scope' }
  const ofPerson = roles && { hint: 'Use the login of the operator, or a token' }
  if (scopes.includes(scope)) {
    if (!allRepositories || repositories === null) return null
    const some = roles ? 'has access to some' : 'is only for some'
    return { status: 403, message: `This is about all repositories, and ${name} ${some}`, ...ofPerson }
  }
  const has = SCOPES.findLast((one) => scopes.includes(one)) ?? 'no'
  return {
    status: 403,
    message: `This needs the scope ${scope}, and ${name} has the scope ${has}`,
    hint: `Use a token with the scope ${scope}; on the server's machine, \`conveyor token create NAME --scope ${scope}\` prints one`,
    ...ofPerson,
  }
}

function sendRefusal(
  reply: FastifyReply,
  { status, message, hint, retryAfter }: Refusal,
  challenges = true,
): FastifyReply {
  if (status === 401 && challenges) reply.header('www-authenticate', CHALLENGES)
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  return sendProblem(reply, status, PROBLEMS[status], message, hint)
}
