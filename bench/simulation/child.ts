import { type ChildProcess, fork } from 'node:child_process'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { basicEnv } from '../../test/support/processes.ts'
import { sqsRequests } from './opened.ts'

/** What a process of the simulation used between `begin` and `end`. */
export interface ProcessFigures {
  cpuSeconds: number
  /** How late its timers came at worst but one in a hundred, in milliseconds: it is slow itself where this is long. */
  loopDelayP99: number
  sqsRequests: Record<string, number>
  /** Lines that Conveyor would have logged: what did not go as it should. */
  problems: string[]
}

type Command = 'start' | 'begin' | 'end'

/** The parent's side of a process. It answers each command once, in order. */
export class Child<Result> implements Disposable {
  readonly #process: ChildProcess

  /** @param file in this folder; it calls `serveParent` */
  constructor(file: string, order: unknown) {
    const path = fileURLToPath(new URL(file, import.meta.url))
    this.#process = fork(path, [JSON.stringify(order)], { env: basicEnv() })
  }

  /** @throws Error when the process ends instead of answering */
  ask(command: Command): Promise<Result> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`a process of the simulation ended: ${code}`))
      this.#process.once('exit', ended)
      this.#process.once('message', (answer) => {
        this.#process.off('exit', ended)
        resolve(answer as Result)
      })
      this.#process.send(command)
    })
  }

  /** Kills it: what it held is not wanted any more. */
  [Symbol.dispose](): void {
    this.#process.kill('SIGKILL')
  }
}

/**
 * The child's side. Ends with the parent.
 * @param start does what is to be done before anything is measured
 * @param begin forgets what was measured so far
 * @param end returns what was measured, in addition to the figures of the process
 */
export function serveParent(
  problems: string[],
  steps: { start: () => Promise<void>; begin?: () => void; end?: () => object },
): void {
  const delay = monitorEventLoopDelay()
  let before = process.cpuUsage()
  const commands: Record<Command, () => Promise<object> | object> = {
    async start() {
      await steps.start()
      return {}
    },
    begin() {
      before = process.cpuUsage()
      delay.enable()
      for (const name of Object.keys(sqsRequests)) delete sqsRequests[name]
      problems.length = 0
      steps.begin?.()
      return {}
    },
    end() {
      const { user, system } = process.cpuUsage(before)
      const figures: ProcessFigures = {
        cpuSeconds: (user + system) / 1e6,
        loopDelayP99: delay.percentile(99) / 1e6,
        sqsRequests,
        problems,
      }
      return { ...figures, ...steps.end?.() }
    },
  }
  process.on('message', async (command: Command) => {
    process.send?.(await commands[command]())
  })
  process.on('disconnect', () => process.exit(0))
}
