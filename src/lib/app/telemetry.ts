import type { Config } from '../config/config.ts'
import type { Build } from '../core/build.ts'
import { createMetrics, type Metrics } from '../telemetry/metrics/metrics.ts'
import { observers } from '../telemetry/observers.ts'
import type { Releaser } from '../util/lifecycle.ts'
import { observedParts } from './observed-parts.ts'
import type { Adapters } from './setup.ts'
import { VERSION } from './version.ts'

export interface Telemetry {
  /** The adapters, whose builds are observed. */
  adapters: Adapters
  metrics: Metrics
}

interface Role {
  /** Whether this process runs builds. */
  builds: boolean
  /** Whether it serves the API. */
  http: boolean
  /** Public base URL of the server. */
  baseUrl: () => string
}

/** Starts to measure what a process does, and to trace its builds if a collector is configured. */
export async function withTelemetry(
  config: Config,
  adapters: Adapters,
  role: Role,
  releaser: Releaser,
): Promise<Telemetry> {
  const { queue, engineRoot } = adapters
  const { depth } = queue
  const metrics = createMetrics({
    version: VERSION,
    slots: role.builds ? config.workers : 0,
    byRepository: config.metrics.byRepository,
    ...(depth && { depth: () => depth.call(queue) }),
    disks: async () => {
      const root = role.builds ? await engineRoot().catch(() => null) : null
      return root === null ? [config.dataDir] : [config.dataDir, root]
    },
    http: role.http,
  })
  const all = [metrics.builds]
  if (config.tracing) {
    const { openTracing } = await import('../telemetry/traces/tracing.ts')
    const buildUrl = ({ id }: Build) => `${role.baseUrl()}/builds/${id}`
    const tracing = openTracing({ version: VERSION, ...config.tracing, buildUrl })
    releaser.add('traces', tracing, (it) => it.close())
    all.push(tracing.builds)
  }
  const observer = observers(all)
  return { adapters: { ...adapters, observer, parts: observedParts(adapters.parts, observer) }, metrics }
}
