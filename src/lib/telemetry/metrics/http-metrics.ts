import { Counter, Histogram, type Registry } from 'prom-client'
import { startAtZero } from './build-metrics.ts'

/** An HTTP request that was answered. */
export interface AnsweredRequest {
  method: string
  /** The pattern of its route, `/builds/:key`; null if there is none. */
  route: string | null
  status: number
  seconds: number
}

const SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60]
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Times requests. All labels are bounded, whatever clients send. */
export function httpMetrics(registry: Registry): (request: AnsweredRequest) => void {
  const durations = new Histogram({
    name: 'conveyor_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the last byte of its response; logs that are followed take as long as the build',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  })
  const deliveries = new Counter({
    name: 'conveyor_webhook_deliveries_total',
    help: 'Webhook deliveries by result: accepted, ignored, refused (not signed correctly), invalid, failed',
    labelNames: ['result'],
    registers: [registry],
  })
  startAtZero(deliveries, 'result', ['accepted', 'ignored', 'refused', 'invalid', 'failed'])
  return ({ method, route, status, seconds }) => {
    const known = METHODS.has(method) ? method : 'other'
    durations.observe({ method: known, route: route ?? 'none', status }, seconds)
    if (route === '/webhooks/github' && method === 'POST') deliveries.inc({ result: deliveryResult(status) })
  }
}

function deliveryResult(status: number): string {
  if (status === 202) return 'accepted'
  if (status < 300) return 'ignored'
  if (status === 401 || status === 403) return 'refused'
  return status < 500 ? 'invalid' : 'failed'
}
