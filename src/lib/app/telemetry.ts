import type { Config } from '../config/config.ts'
import { createMetrics, type Metrics } from '../telemetry/metrics/metrics.ts'
import { observedParts } from './observed-parts.ts'
import type { Adapters } from './setup.ts'
import { VERSION } from './version.ts'

export interface Telemetry {
  /** The adapters, whose builds are observed. */
  adapters: Adapters
  metrics: Metrics
}

/**
 * Starts to measure what a process does.
 * @param role whether it runs builds, and whether it serves the API
 */
export function withTelemetry(
  config: Config,
  adapters: Adapters,
  role: { builds: boolean; http: boolean },
): Telemetry {
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
  const observer = metrics.builds
  return { adapters: { ...adapters, observer, parts: observedParts(adapters.parts, observer) }, metrics }
}
