import { type FastifyInstance, fastify } from 'fastify'

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

/** GET /healthz: the process is alive. GET /readyz: what builds need works. GET /metrics: for Prometheus. */
export async function operationsRoutes(
  app: FastifyInstance,
  { version, ready, metrics }: OperationsOptions,
): Promise<void> {
  app.get('/healthz', { config: { public: true } }, async () => ({ status: 'ok', version: version ?? null }))
  app.get('/readyz', { config: { public: true } }, async (_request, reply) => {
    const { ready: isReady, parts } = (await ready?.()) ?? { ready: true, parts: {} }
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ok' : 'unavailable', ...parts })
  })
  if (!metrics) return
  app.get('/metrics', { config: { scope: 'read' } }, async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.scrape()),
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
  const app = fastify({ requestTimeout: 10_000, forceCloseConnections: true, bodyLimit: 1024 })
  await app.register(operationsRoutes, options)
  return app
}
