import { join } from 'node:path'
import { parseReference } from '../src/lib/registry/image-name.ts'
import { gitEnv } from '../test/support/git/repository.ts'
import { imageConfig } from '../test/support/images/pushed-image.ts'
import { projectRoot } from '../test/support/processes.ts'
import { type Spread, spread } from './report/stats.ts'
import { secondsText, short } from './report/summary.ts'
import { quiet } from './support/quiet.ts'
import { run } from './support/run.ts'
import type { World } from './support/world.ts'
import { APP } from './workload/shape.ts'
import { Workload } from './workload/workload.ts'

/** What scenarios take at least, by their ids: seconds, in all and by step. */
export type LimitResult = Record<string, { seconds: Spread; steps: Record<string, number> }>

/** In this order, each on what those before it left. */
const SCENARIOS: [string, (workload: Workload) => Promise<unknown>][] = [
  ['S1', async () => {}],
  ['S2', (workload) => workload.oneLine()],
  ['S6', async () => {}],
  ['S7', (workload) => workload.docs()],
  ['S5', (workload) => workload.dependency()],
]

/** Runs limit.sh for one new commit after another, of the same repository that the flows build. */
export async function measureLimit(world: World, runs: number): Promise<LimitResult> {
  const shape = { ...APP, repository: 'acme/limit' }
  const workload = await Workload.create(world.git, shape, world.baseImage)
  const { path } = parseReference(world.baseImage)
  const base = (await imageConfig(world.baseImage)).manifest.layers[0]?.digest
  const env = { ...gitEnv(), BASE: `/v2/${path}/blobs/${base}` }
  await using disk = await world.newDisk('limit')
  const url = `${world.git.url}/${workload.repository}.git`
  const measured = new Map<string, Map<string, number>[]>()
  for (let i = 0; i < runs; i++) {
    for (const [id, push] of SCENARIOS) {
      await push(workload)
      await disk.settle()
      await world.settle()
      await quiet()
      const script = join(projectRoot, 'bench/limit.sh')
      const args = [id, url, workload.head, world.registry.url, shape.repository, disk.path]
      const printed = await run('sh', [script, ...args], { env })
      const steps = printed.matchAll(/^(\w+) ([\d.e-]+)$/gm)
      const times = new Map([...steps].map(([, name = '', seconds]) => [name, Number(seconds)]))
      measured.set(id, [...(measured.get(id) ?? []), times])
    }
  }
  return Object.fromEntries([...measured].map(([id, all]) => [id, resultOf(all)]))
}

function resultOf(all: Map<string, number>[]): LimitResult[string] {
  const totals = all.map((steps) => [...steps.values()].reduce((sum, seconds) => sum + seconds, 0))
  const names = [...new Set(all.flatMap((steps) => [...steps.keys()]))]
  const medians = names.map((name) => [name, spread(all.map((steps) => steps.get(name) ?? 0)).median])
  return { seconds: spread(totals), steps: Object.fromEntries(medians) }
}

export function limitLines(result: LimitResult): string[] {
  return Object.entries(result).map(([id, { seconds, steps }]) => {
    const parts = Object.entries(steps).map(([name, time]) => `${name} ${short(time)}`)
    return `${id}: ${secondsText(seconds)}, of it ${parts.join(', ')}`
  })
}
