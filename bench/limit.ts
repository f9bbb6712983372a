import { join } from 'node:path'
import { gitEnv } from '../test/support/git-repository.ts'
import { projectRoot } from '../test/support/processes.ts'
import { type Spread, spread } from './stats.ts'
import { short } from './summary.ts'
import { quiet } from './support/quiet.ts'
import { run } from './support/run.ts'
import type { World } from './support/world.ts'
import { APP } from './workload/shape.ts'
import { Workload } from './workload/workload.ts'

/** What a one-line change takes at least: seconds, in all and by step. */
export interface LimitResult {
  seconds: Spread
  /** Medians. */
  steps: Record<string, number>
}

/** Runs limit.sh on one new commit after another, of the same repository that the flows build. */
export async function measureLimit(world: World, runs: number): Promise<LimitResult> {
  const shape = { ...APP, repository: 'acme/limit' }
  const workload = await Workload.create(world.git, shape, world.baseImage)
  await using disk = await world.newDisk('limit')
  const totals: number[] = []
  const steps = new Map<string, number[]>()
  for (let i = -1; i < runs; i++) {
    await workload.oneLine()
    await disk.settle()
    await world.settle()
    await quiet()
    const began = performance.now()
    const script = join(projectRoot, 'bench/limit.sh')
    const url = `${world.git.url}/${workload.repository}.git`
    const printed = await run(
      'sh',
      [script, url, workload.head, world.registry.url, shape.repository, disk.path],
      {
        env: gitEnv(),
      },
    )
    if (i < 0) continue // the first one fetches everything
    totals.push((performance.now() - began) / 1000)
    for (const line of printed.trim().split('\n')) {
      const [name = '', seconds] = line.split(' ')
      steps.set(name, [...(steps.get(name) ?? []), Number(seconds)])
    }
  }
  const medians = [...steps].map(([name, all]) => [name, spread(all).median])
  return { seconds: spread(totals), steps: Object.fromEntries(medians) }
}

export function limitLines({ seconds, steps }: LimitResult): string[] {
  const parts = Object.entries(steps).map(([name, time]) => `${name} ${short(time)}`)
  const { median, min, max } = seconds
  return [
    `A one-line change by hand, without any builder: ${short(median)} s (${short(min)} to ${short(max)})`,
    `of it ${parts.join(', ')}`,
  ]
}
