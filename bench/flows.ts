import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Contender, Flow, StartContender } from './contenders/contender.ts'
import { conveyor, conveyorBuildkit, conveyorContainerd } from './contenders/conveyor.ts'
import { buildah, buildctl, engineScript } from './contenders/scripts.ts'
import type { Scenario } from './scenarios.ts'
import { quiet } from './support/quiet.ts'
import { say } from './support/run.ts'
import { verify } from './support/verify.ts'
import type { World } from './support/world.ts'
import { Workload } from './workload/workload.ts'

export const CONTENDERS: Record<string, StartContender> = {
  conveyor,
  'conveyor-containerd': conveyorContainerd,
  'conveyor-buildkit': conveyorBuildkit,
  classic: engineScript('classic'),
  buildkit: engineScript('buildkit'),
  buildah,
  buildctl,
}

/** Whether it is Conveyor, which runs on each kind of engine, and not one of its alternatives. */
export function isOurs(name: string): boolean {
  return name.startsWith('conveyor')
}

/** A measured run: how long it took, or why it failed. */
export type Outcome = Omit<Flow, 'log'> | { failed: string }

/** Outcomes by scenario and contender, in the order of the runs. */
export type FlowResults = Record<string, Record<string, Outcome[]>>

export interface FlowOptions {
  contenders: StartContender[]
  scenarios: Scenario[]
  runs: number
  /** Where the log of each run goes. */
  logs: string
  signal: AbortSignal
}

/**
 * Runs every scenario with every contender, in turns: each round runs each scenario with all contenders, and each
 * round starts with a different contender. Only one of them works at a time.
 */
export async function measureFlows(world: World, options: FlowOptions): Promise<FlowResults> {
  await using resources = new AsyncDisposableStack()
  const contenders: Contender[] = []
  for (const begin of options.contenders) contenders.push(resources.use(await begin(world)))
  const results: FlowResults = {}
  const record = (scenario: Scenario, contender: Contender, outcome: Outcome) => {
    results[scenario.id] ??= {}
    const outcomes = results[scenario.id] as Record<string, Outcome[]>
    outcomes[contender.name] = [...(outcomes[contender.name] ?? []), outcome]
  }
  for (const shape of new Set(options.scenarios.map((scenario) => scenario.shape))) {
    say(`writing the history of ${shape.repository}`)
    const workload = await Workload.create(world.git, shape, world.baseImage)
    const scenarios = options.scenarios.filter((scenario) => scenario.shape === shape)
    const course = new Course(world, workload, options)
    if (scenarios[0]?.chill !== 'new') await course.all(contenders, 'warming up')
    for (let round = 0; round < options.runs; round++) {
      const first = round % contenders.length
      const order = [...contenders.slice(first), ...contenders.slice(0, first)]
      for (const scenario of scenarios) {
        if (await scenario.before(workload)) await course.all(order, `before ${scenario.id}`)
        await scenario.push(workload)
        for (const contender of order) {
          if (scenario.against && !isOurs(contender.name)) {
            await course.one(contender, null, `not counted, ${scenario.id}`)
            continue
          }
          const title = `${scenario.id} ${round + 1}/${options.runs}`
          record(scenario, contender, await course.one(contender, scenario.chill, title))
        }
      }
    }
  }
  return results
}

/** Takes all contenders through the pushes to one repository. */
class Course {
  readonly #world: World
  readonly #workload: Workload
  readonly #options: FlowOptions

  constructor(world: World, workload: Workload, options: FlowOptions) {
    this.#world = world
    this.#workload = workload
    this.#options = options
  }

  /** Builds the head of the branch with every contender, without counting it. */
  async all(contenders: Contender[], title: string): Promise<void> {
    for (const contender of contenders) await this.one(contender, null, title)
  }

  /** Builds the head of the branch with one contender. A failure is an outcome, too. */
  async one(contender: Contender, chill: Scenario['chill'], title: string): Promise<Outcome> {
    this.#options.signal.throwIfAborted()
    const { repository, head: sha } = this.#workload
    const image = contender.image(repository)
    const outcome = await this.#attempt(async () => {
      if (chill === 'new') await this.#world.forget(image)
      if (chill) await contender.chill(chill)
      await contender.disk.settle()
      await this.#world.settle()
      await quiet()
      const { log, ...flow } = await contender.run({ repository, branch: 'main', sha })
      const name = `${title}-${contender.name}`.replaceAll(/[ /]/g, '-')
      await writeFile(join(this.#options.logs, `${name}.log`), log)
      await verify(this.#world, image, this.#workload)
      return flow
    })
    const result = 'failed' in outcome ? `failed: ${outcome.failed}` : `${outcome.seconds.toFixed(2)} s`
    say(`${title.padEnd(18)} ${contender.name.padEnd(10)} ${result}`)
    return outcome
  }

  async #attempt(work: () => Promise<Outcome>): Promise<Outcome> {
    try {
      return await work()
    } catch (error) {
      return { failed: (error as Error).message }
    }
  }
}
