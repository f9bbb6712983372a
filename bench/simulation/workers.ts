import { Redactor } from '../../src/lib/logs/redact.ts'
import { WarmRepositories } from '../../src/lib/pipeline/cache/warm.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import { work } from '../../src/lib/pipeline/worker.ts'
import { serveParent } from './child.ts'
import { openAll, type Place } from './opened.ts'
import { simulatedForge, simulatedParts } from './parts.ts'

/** A process that runs many `conveyor worker` instances, each with its own connections. */
export interface WorkersOrder {
  place: Place
  /** Number of instances. */
  processes: number
  /** Builds that each may run at a time, as with --workers. */
  concurrency: number
}

if (import.meta.main) {
  const { place, processes, concurrency } = JSON.parse(process.argv[2] ?? '') as WorkersOrder
  const problems: string[] = []
  const log = (line: string) => void problems.push(line)
  const never = new AbortController().signal

  const startOne = async () => {
    const { store, queue, logs } = await openAll(place, log)
    const statuses = new StatusReporter({ forge: simulatedForge, store, buildUrl: ({ id }) => id, log })
    const options = {
      ...{ queue, logs, statuses, log, parts: simulatedParts(store) },
      ...{ newRedactor: () => new Redactor(), warm: new WarmRepositories() },
      ...{ timeoutMs: 3_600_000, retryDelays: [5, 15, 60] },
    }
    void work(options, concurrency, { stop: never, now: never })
  }

  serveParent(problems, {
    async start() {
      for (let i = 0; i < processes; i++) await startOne()
    },
  })
}
