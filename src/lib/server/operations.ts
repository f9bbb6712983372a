import { type FastifyInstance, fastify } from 'fastify'
import { HealthJson, ReadinessJson } from '../api/health.ts'
import { Problem } from '../api/problem.ts'
import { Type } from '../api/type.ts'
import { answers, json, publicAnswers, text } from './api/answers.ts'
import { SCHEMAS } from './api/values.ts'

/** Response of /readyz: whether builds work, and the state of each component they need, by name. */
export interface Readiness {
  ready: boolean
  parts: Record<string, 'ok' | 'unavailable'>
}

/** What /healthz, /readyz and /metrics answer. */
export interface OperationsOptions {
  /** Shown by /healthz. */
  version?: string
  /** Readiness for /readyz; ready by default. */
  ready?: () => Promise<Readiness>
  /** Absent: there is no /metrics. */
  metrics?: ServerMetrics
}

/** Metrics of the process, which also see the requests of this server. */
export interface ServerMetrics {
  /** Of the text of `scrape`. */
  contentType: string
  scrape(): Promise<string>
  /** @param request `route`: the pattern, `/builds/:key`; null if there is no such route */
  answered(request: { method: string; route: string | null; status: number; seconds: number }): void
}

const HEALTH = {
  operationId: 'getHealth',
  tags: ['operation'],
  summary: 'Check that the server runs',
  response: publicAnswers({ 200: json('It runs', HealthJson) }),
}
const READINESS = {
  operationId: 'getReadiness',
  tags: ['operation'],
  summary: 'Check that builds can run',
  description:
    'Whether store and queue work, and the engine if the server runs builds itself. The log of the server says why not.',
  response: publicAnswers({
    200: json('Builds can run', ReadinessJson),
    503: json('Builds cannot run, or the server is shutting down', Type.Union([ReadinessJson, Problem])),
  }),
}

const METRICS = {
  operationId: 'getMetrics',
  tags: ['operation'],
  summary: 'Scrape the metrics',
  response: answers({ 200: text('Metrics in the text format of Prometheus') }),
}

/** GET /healthz: the process is alive. GET /readyz: what builds need works. GET /metrics: for Prometheus. */
export async function operationsRoutes(
  app: FastifyInstance,
  { version, ready, metrics }: OperationsOptions,
): Promise<void> {
  app.get(
    '/healthz',
    { config: { public: true }, schema: HEALTH },
    async (): Promise<HealthJson> => ({
      status: 'ok',
      version: version ?? null,
    }),
  )
  app.get('/readyz', { config: { public: true }, schema: READINESS }, async (_request, reply) => {
    const { ready: isReady, parts } = (await ready?.()) ?? { ready: true, parts: {} }
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ok' : 'unavailable', ...parts })
  })
  if (!metrics) return
  app.get(
    '/metrics',
    { config: { scope: 'read', allRepositories: true }, schema: METRICS },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.scrape()),
  )
}

/** Shows every answered request of an app to the metrics. */
export function observeRequests(app: FastifyInstance, metrics: ServerMetrics | undefined): void {
  if (!metrics) return
  app.addHook('onResponse', async (request, reply) => {
    const { method, is404, routeOptions } = request
    const route = is404 ? null : (routeOptions.url ?? null)
    metrics.answered({ method, route, status: reply.statusCode, seconds: reply.elapsedTime / 1000 })
  })
}

/** A server of /healthz, /readyz and /metrics alone, which answers whoever can connect to it. */
export async function createOperationsServer(options: OperationsOptions): Promise<FastifyInstance> {
  const app = fastify({
    schemaController: SCHEMAS,
    requestTimeout: 10_000,
    forceCloseConnections: true,
    bodyLimit: 1024,
  })
  await app.register(operationsRoutes, options)
  return app
}
