import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { requestBuild, sendOverdue } from '../../src/lib/pipeline/accept.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import { serveParent } from './child.ts'
import { anyRepository, newBuild, runningBuild, shaOf } from './mix.ts'
import { openAll, type Place } from './opened.ts'
import { simulatedForge } from './parts.ts'

/** A process that accepts pushes as `conveyor server` does, and sends them. */
export interface PushesOrder {
  place: Place
  perMinute: number
  scale: number
  /** How many builds are half-way when it starts. */
  running: number
}

export interface PushesFigures {
  /** Milliseconds until each request was accepted, which is what a webhook waits for. */
  acceptMs: number[]
}

if (import.meta.main) {
  const { place, perMinute, scale, running } = JSON.parse(process.argv[2] ?? '') as PushesOrder
  const problems: string[] = []
  const log = (line: string) => void problems.push(line)
  const { store, queue } = await openAll(place, log)
  const statuses = new StatusReporter({ forge: simulatedForge, store, buildUrl: ({ id }) => id, log })
  let acceptMs: number[] = []

  const push = async (seconds: number) => {
    const from = performance.now()
    await requestBuild(
      {
        ...{ repository: anyRepository(), sha: shaOf(seconds), ref: { kind: 'branch', name: 'main' } },
        ...{ defaultBranch: 'main', cache: true, source: { kind: 'webhook', delivery: randomUUID() } },
      },
      { store, queue, log },
    )
    acceptMs.push(performance.now() - from)
  }

  /** Pushes arrive independently of how long earlier ones take. */
  const pushForEver = async () => {
    for (let due = performance.now(); ; ) {
      due += (-Math.log(1 - Math.random()) * 60_000) / perMinute
      const early = due - performance.now()
      if (early > 1) await sleep(early)
      push(newBuild(scale)).catch((error: Error) => log(`a push was not accepted: ${error.message}`))
    }
  }

  serveParent(problems, {
    async start() {
      // As serve.ts does.
      const failed = (error: Error) => log(error.message)
      let feeding = false
      setInterval(async () => {
        if (feeding) return
        feeding = true
        await sendOverdue({ store, queue, log }).catch(failed)
        feeding = false
      }, 5000)
      setInterval(() => void statuses.sweep().catch(failed), 60_000)
      if (perMinute === 0) return
      for (let i = 0; i < running; i += 10) {
        await Promise.all(Array.from({ length: 10 }, () => push(runningBuild(scale))))
      }
      void pushForEver()
    },
    begin() {
      acceptMs = []
    },
    end: (): PushesFigures => ({ acceptMs }),
  })
}
