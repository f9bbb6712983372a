import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { toConveyorError } from '../core/errors.ts'
import type { Workers } from '../store/fleet.ts'
import type { Releaser } from '../util/lifecycle.ts'
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
  let failing = false
  let reporting: Promise<void> | undefined
  const report = async () => {
    try {
      await workers.seen({ ...worker, builds: running(), warm: warm() })
      failing = false
    } catch (error) {
      if (!failing) log(`reporting this worker: ${toConveyorError(error, 'failed').advice}`)
      failing = true
    }
    reporting = undefined
  }
  const timer = setInterval(() => {
    reporting ??= report()
  }, REPORT_MS)
  reporting = report()
  releaser.add('worker report', timer, async (it) => {
    clearInterval(it)
    await reporting
    // The others forget it within a minute anyway.
    await workers.gone(worker.id).catch(() => {})
  })
}
