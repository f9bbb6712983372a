import { type FastifyInstance, fastify } from 'fastify'
import { guard } from './access/guard.ts'
import { answers, text } from './api/answers.ts'
import { buildsRoutes } from './api/builds.ts'
import { controlRoutes } from './api/control.ts'
import { listsRoutes } from './api/lists.ts'
import { notificationsRoutes } from './api/notifications/routes.ts'
import { describeRoutes } from './api/openapi.ts'
import { openApiRoute } from './api/openapi-route.ts'
import { queueRoutes } from './api/queue.ts'
import { timelinesRoutes } from './api/timelines.ts'
import { tokensRoutes } from './api/tokens.ts'
import { SCHEMAS } from './api/values.ts'
import { loginRoutes } from './login/routes.ts'
import { Polls } from './logs/follow.ts'
import { LineIndexes } from './logs/line-index.ts'
import { linesRoute } from './logs/lines-route.ts'
import { buildSender, logsRoute, TEXT } from './logs/route.ts'
import { Streams } from './logs/streams.ts'
import { observeRequests, operationsRoutes } from './operations.ts'
import type { ServerOptions } from './options.ts'
import { currentHead } from './pages/build/routes.ts'
import { type Site, siteOf } from './pages/layout.ts'
import { pageConstraint } from './pages/negotiation.ts'
import { pagesRoutes } from './pages/routes.ts'
import { describeError, isServerError, sendError, sendProblem } from './problems.ts'
import { setupRoutes } from './setup/routes.ts'
import { rewriteWebhook, webhookRoute } from './webhook/route.ts'

export type { ServerOptions } from './options.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Where pages are. */
    site(): Site
  }
}

const HEARTBEAT_MS = 25_000
const LOG_GRACE_MS = 3_000
const ARRIVAL_MS = 30_000
const HEADERS_MS = 20_000

const SECURITY_HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
}

/**
 * The HTTP server: webhooks, API, logs. Call `listen` on it; `close` cuts every open stream, and resolves
 * once it has stopped reading from the stores.
 */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const { store, logs, log, arrivalMs = ARRIVAL_MS } = options
  const app = fastify({
    rewriteUrl: (request) => rewriteWebhook(request) ?? stripBasePath(request.url ?? '/', options.baseUrl()),
    bodyLimit: 64 * 1024,
    // For receiving a request; responses may take hours. GitHub itself gives up after 10 s.
    requestTimeout: arrivalMs,
    http: { connectionsCheckingInterval: 1000 },
    // Longer than the idle timeout of load balancers, which must be the ones to close connections.
    keepAliveTimeout: 75_000,
    forceCloseConnections: true,
    // Fastify's own is not as the API describes errors: see rejectWhileClosing.
    return503OnClosing: false,
    // `request.ip` is the client's address, as far as trusted proxies report it.
    trustProxy: options.proxies?.has ?? false,
    // owner/repo@sha with its slash encoded is one parameter
    routerOptions: { maxParamLength: 512 },
    schemaController: SCHEMAS,
    frameworkErrors: (error, _request, reply) => {
      sendError(reply.headers(SECURITY_HEADERS), error)
    },
  })
  app.addConstraintStrategy(pageConstraint)
  app.decorate('site', () => siteOf(options.baseUrl(), options))
  app.server.headersTimeout = Math.min(HEADERS_MS, arrivalMs)

  app.addHook('onRequest', async (_request, reply) => {
    reply.headers(SECURITY_HEADERS)
  })
  observeRequests(app, options.metrics)
  rejectWhileClosing(app)
  const people = await guard(app, options)
  app.setErrorHandler((error, request, reply) => {
    if (isServerError(error))
      log(`${request.method} ${request.routeOptions.url ?? ''}: ${describeError(error)}`, {
        request: request.id,
        level: 'error',
      })
    return sendError(reply, error)
  })
  app.setNotFoundHandler((request, reply) =>
    sendProblem(reply, 404, 'not_found', `no such route: ${request.method} ${request.url.slice(0, 200)}`),
  )
  // Bodies are parsed only by routes that need them.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', async () => undefined)

  const streams = new Streams(log, options.maxStreams)
  app.addHook('preClose', () => streams.close())
  const polls = new Polls(store)
  const parts = {
    ...{ store, polls, logs, log },
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    logGraceMs: options.logGraceMs ?? LOG_GRACE_MS,
  }
  const indexes = new LineIndexes(logs)
  const pageParts = { ...parts, indexes }
  const rejectOtherMethods = trackMethods(app)
  await describeRoutes(app, options.version)

  await app.register(webhookRoute, options)
  await app.register(buildsRoutes, { ...options, sendBuild: buildSender(options, streams, parts) })
  await app.register(listsRoutes, options)
  await app.register(timelinesRoutes, options)
  await app.register(pagesRoutes, { ...options, ...pageParts })
  await app.register(setupRoutes, options)
  await app.register(tokensRoutes, options)
  if (people && options.signIn)
    await app.register(loginRoutes, { ...options, people, signIn: options.signIn })
  await app.register(controlRoutes, options)
  await app.register(notificationsRoutes, options)
  await app.register(logsRoute, { ...options, streams, parts })
  await app.register(linesRoute, {
    ...{ parts, streams, indexes },
    head: async (build, mayBuild) =>
      (await currentHead(app.site(), build, { mayBuild, isIndexed: true }, pageParts)).toString(),
  })
  await app.register(operationsRoutes, options)
  await app.register(queueRoutes, options)
  await app.register(openApiRoute, options)
  app.get('/', { config: { scope: 'read' }, schema: INDEX }, async (_request, reply) =>
    reply.type(TEXT).send(indexPage(options)),
  )
  rejectOtherMethods()
  return app
}

/** Removes the path of the base URL from a request's URL, unless a proxy in front of the server already did. */
function stripBasePath(url: string, baseUrl: string): string {
  const base = (URL.parse(baseUrl)?.pathname ?? '').replace(/\/+$/, '')
  const rest = url.slice(base.length)
  if (base === '' || !url.startsWith(base) || !/^([/?]|$)/.test(rest)) return url
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** Requests on connections that are still open are not begun any more; another server, or the next one, may answer them. */
function rejectWhileClosing(app: FastifyInstance): void {
  let isClosing = false
  app.addHook('preClose', async () => {
    isClosing = true
  })
  app.addHook('onRequest', async (_request, reply) => {
    if (!isClosing) return
    return sendProblem(reply.header('connection', 'close'), 503, 'unavailable', 'the server is shutting down')
  })
}

/** Records the methods of each path, to respond to others with 405 instead of 404. */
function trackMethods(app: FastifyInstance): () => void {
  const paths = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    const methods = paths.get(url) ?? new Set()
    for (const name of [method].flat()) methods.add(name.toUpperCase())
    paths.set(url, methods)
  })
  return () => {
    for (const [url, methods] of [...paths]) {
      const allowed = [...methods].sort().join(', ')
      const others = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((name) => !methods.has(name))
      app.route({
        url,
        method: others,
        config: { scope: 'read' },
        schema: { hide: true },
        handler: async (request, reply) => {
          reply.header('allow', allowed)
          return sendProblem(
            reply,
            405,
            'method_not_allowed',
            `${url} does not support ${request.method}; use ${allowed}`,
          )
        },
      })
    }
  }
}

const INDEX = {
  operationId: 'getIndex',
  tags: ['pages'],
  summary: 'Show what there is',
  response: answers({ 200: text('The most important routes') }),
}

function indexPage({ baseUrl, version }: ServerOptions): string {
  const base = baseUrl()
  return `Conveyor${version ? ` ${version}` : ''} builds Docker images from GitHub pushes.

GitHub webhook   POST ${base}/webhooks/github
Build a commit   POST ${base}/builds  {"repository": "owner/name", "sha": "..."}
Builds           GET  ${base}/builds
Repositories     GET  ${base}/repositories
Build status     GET  ${base}/builds/{id}
Cancel a build   POST ${base}/builds/{id}/cancel
Retry a build    POST ${base}/builds/{id}/retry
Built image      GET  ${base}/artifacts/{owner}/{name}@{sha}
Build log        GET  ${base}/logs/{id}
Liveness         GET  ${base}/healthz
Readiness        GET  ${base}/readyz
Metrics          GET  ${base}/metrics
API description  GET  ${base}/openapi.json
`
}
