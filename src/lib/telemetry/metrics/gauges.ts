import { statfs } from 'node:fs/promises'
import { Gauge, type Registry } from 'prom-client'
import type { QueueDepth } from '../../queue/queue.ts'
import { within } from './within.ts'

/** Brings gauges up to date, before a scrape. Never rejects. */
export type Refresh = () => Promise<void>

/** How long an answer of the queue is reused, in milliseconds: several Prometheus servers may scrape. */
const FRESH_MS = 3000
/** A scrape waits no longer than this for the queue or a file system. */
const LIMIT_MS = 2000

/** How much work the queue has. A queue that does not answer has no depth. */
export function queueGauges(registry: Registry, ask: () => Promise<QueueDepth>): Refresh {
  const registers = [registry]
  const up = new Gauge({ name: 'conveyor_queue_up', help: 'Whether the queue answers', registers })
  const depth = new Gauge({
    name: 'conveyor_queue_depth',
    help: 'Jobs in the queue: ready, or leased to a worker',
    labelNames: ['state'],
    registers,
  })
  const oldest = new Gauge({
    name: 'conveyor_queue_oldest_seconds',
    help: 'For how long the oldest ready job has been ready; absent if the queue does not report it',
    registers,
  })
  let latest: { at: number; answer: Promise<QueueDepth | null> } | undefined
  return async () => {
    if (!latest || performance.now() - latest.at > FRESH_MS) {
      latest = { at: performance.now(), answer: within(LIMIT_MS, ask) }
    }
    const answer = await latest.answer
    up.set(answer === null ? 0 : 1)
    depth.reset()
    if (answer !== null) {
      depth.set({ state: 'ready' }, answer.ready)
      depth.set({ state: 'leased' }, answer.leased)
    }
    const seconds = answer?.oldestSeconds ?? null
    if (seconds === null) oldest.remove()
    else oldest.set(seconds)
  }
}

/**
 * Space of the file systems of some folders; folders that do not exist are left out.
 * @param paths the folders; asked each time, as an engine may only say later where its root is
 */
export function diskGauges(registry: Registry, paths: () => Promise<readonly string[]>): Refresh {
  const options = { labelNames: ['path'] as const, registers: [registry] }
  const free = new Gauge({
    ...options,
    name: 'conveyor_disk_free_bytes',
    help: 'Space that is left for Conveyor on the file system of a folder',
  })
  const size = new Gauge({
    ...options,
    name: 'conveyor_disk_size_bytes',
    help: 'Size of the file system of a folder',
  })
  return async () => {
    const folders = (await within(LIMIT_MS, paths)) ?? []
    const read = async (path: string) => ({ path, stats: await within(LIMIT_MS, () => statfs(path)) })
    const all = await Promise.all(folders.map(read))
    for (const gauge of [free, size]) gauge.reset()
    for (const { path, stats } of all) {
      if (stats === null) continue
      free.set({ path }, stats.bavail * stats.bsize)
      size.set({ path }, stats.blocks * stats.bsize)
    }
  }
}
