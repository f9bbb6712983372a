import { setTimeout as sleep } from 'node:timers/promises'
import { type Running, spawnConveyor } from './processes.ts'
import { tempDir } from './temp.ts'
import type { World } from './world.ts'

/** A `conveyor worker` that is restarted on the same data whenever it exits, as by an init system. */
interface FleetWorker {
  /** Kills the current process. */
  kill(): Promise<void>
  /** How often it was started. */
  starts(): number
}

export interface Fleet extends AsyncDisposable {
  workers: FleetWorker[]
  /** The output of all its processes. */
  output(): string
}

/** Starts workers on one world, each as on a separate machine: only the engine is shared. */
export async function startFleet(
  world: World,
  count: number,
  env: NodeJS.ProcessEnv,
  flags: string[],
): Promise<Fleet> {
  await using resources = new AsyncDisposableStack()
  const output: (() => string)[] = []

  async function startWorker(): Promise<FleetWorker> {
    const { path } = resources.use(await tempDir('conveyor-worker-'))
    let current: Running | undefined
    let stopping = false
    let starts = 0
    async function run(): Promise<void> {
      while (!stopping) {
        const running = await spawnConveyor(['worker', ...flags], {
          env: { ...world.env, ...env, DATA_DIR: path },
        })
        current = running
        starts++
        output.push(() => running.stdout() + running.stderr())
        // Disposing, while this one was being started, ended only the one before.
        if (stopping) await running.kill('SIGTERM')
        await running.exited
        await sleep(200)
      }
    }
    const ended = run()
    resources.defer(async () => {
      stopping = true
      await current?.kill('SIGTERM')
      await ended
    })
    return { kill: async () => void (await current?.kill('SIGKILL')), starts: () => starts }
  }

  const workers: FleetWorker[] = []
  for (let i = 0; i < count; i++) workers.push(await startWorker())
  const owned = resources.move()
  return {
    workers,
    output: () => output.map((read) => read()).join(''),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
