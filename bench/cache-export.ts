import { conveyorBuildkit, conveyorWithoutCache } from './contenders/conveyor.ts'
import { measureFlows } from './flows.ts'
import type { Spread } from './report/stats.ts'
import { cellOf, secondsText } from './report/summary.ts'
import { SCENARIOS } from './scenarios.ts'
import type { World } from './support/world.ts'
import { APP } from './workload/shape.ts'

/** Seconds from a push that changes a dependency to its tags and status, which is when a cache has most to keep. */
export interface CacheExportResult {
  on: Spread
  off: Spread
}

/** Measures whether exporting the cache after the tags delays them. */
export async function measureCacheExport(
  world: World,
  options: { runs: number; logs: string; signal: AbortSignal },
): Promise<CacheExportResult> {
  const shape = { ...APP, repository: 'acme/cache-export' }
  const scenarios = SCENARIOS.filter(({ id }) => id === 'S5').map((scenario) => ({ ...scenario, shape }))
  const contenders = [conveyorBuildkit, conveyorWithoutCache]
  const { S5 = {} } = await measureFlows(world, { ...options, contenders, scenarios })
  const [on, off] = Object.entries(S5).map(([name, outcomes]) => {
    const { seconds, failures } = cellOf(outcomes)
    if (!seconds) throw new Error(`every run of ${name} failed: ${failures[0]}`)
    return seconds
  })
  if (!on || !off) throw new Error('expected results with and without the cache export')
  return { on, off }
}

export function cacheExportLines({ on, off }: CacheExportResult): string[] {
  return [
    `A dependency change (S5) on conveyor-buildkit: ${secondsText(on)} with cache export, ${secondsText(off)} without: ${(on.median / off.median).toFixed(2)}`,
  ]
}
