import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { BuildObserver } from '../../pipeline/observer.ts'
import type { QueueDepth } from '../../queue/queue.ts'
import { type BuildMetricsOptions, buildMetrics } from './build-metrics.ts'
import { diskGauges, queueGauges } from './gauges.ts'
import { type AnsweredRequest, httpMetrics } from './http-metrics.ts'

export interface MetricsOptions extends BuildMetricsOptions {
  version: string
  /** How many builds may run in this process; 0 if others run them. */
  slots: number
  /** Absent if the queue does not report it. */
  depth?: () => Promise<QueueDepth>
  /** Folders on whose file systems builds need space. */
  disks: () => Promise<readonly string[]>
  /** Whether this process serves the API. */
  http: boolean
}

/** The metrics of this process, in Prometheus's text format. */
export interface Metrics {
  builds: BuildObserver
  /** Sees an answered request. */
  answered(request: AnsweredRequest): void
  readonly contentType: string
  /** All metrics as text. Takes at most a few seconds, whatever does not answer. */
  scrape(): Promise<string>
}

/** How often the delay of the event loop is sampled, in milliseconds: the library's 10 wake an idle process often. */
const LOOP_PRECISION_MS = 50

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_PRECISION_MS })
  const info = new Gauge({
    name: 'conveyor_build_info',
    help: 'Always 1; which version of Conveyor and Node runs',
    labelNames: ['version', 'node'],
    registers: [registry],
  })
  info.set({ version: options.version, node: process.version }, 1)
  const slots = new Gauge({
    name: 'conveyor_build_slots',
    help: 'How many builds may run in this process at the same time',
    registers: [registry],
  })
  slots.set(options.slots)
  const builds = buildMetrics(registry, options)
  const refresh = [
    ...(options.depth ? [queueGauges(registry, options.depth)] : []),
    diskGauges(registry, options.disks),
  ]
  const answered = options.http ? httpMetrics(registry) : () => {}
  return {
    ...{ builds, answered, contentType: registry.contentType },
    async scrape() {
      await Promise.all(refresh.map((one) => one()))
      // The library's spelling of a value that is not a number is not that of the format.
      return (await registry.metrics()).replace(/ Nan$/gm, ' NaN')
    },
  }
}
