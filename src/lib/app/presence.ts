import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { logFirst } from '../core/log.ts'
import type { Workers } from '../store/fleet.ts'
import type { Releaser } from '../util/lifecycle.ts'
import { Periodic } from '../util/periodic.ts'
import { VERSION } from './version.ts'

const REPORT_MS = 10_000

interface PresenceOptions {
  workers: Workers
  slots: number
  /** Ids of the builds that this process runs now. */
  running: () => string[]
  /** The repositories that it is warm for. */
  warm: () => string[]
  log: (line: string) => void
}

/** Shows this process among the workers, until it is released. Failures are logged and harmless. */
export function reportPresence(
  { workers, slots, running, warm, log }: PresenceOptions,
  releaser: Releaser,
): void {
  const worker = {
    ...{ id: randomUUID(), host: hostname(), pid: process.pid, version: VERSION, slots },
    startedAt: new Date().toISOString(),
  }
  const report = () => workers.seen({ ...worker, builds: running(), warm: warm() })
  const reporter = new Periodic(REPORT_MS, report, logFirst(log, 'reporting this worker'))
  void reporter.run()
  releaser.add('worker report', reporter, async (it) => {
    await it.stop()
    // The others forget it within a minute anyway.
    await workers.gone(worker.id).catch(() => {})
  })
}
