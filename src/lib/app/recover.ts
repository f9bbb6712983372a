import { toConveyorError } from '../core/errors.ts'
import { type Log, logFirst } from '../core/log.ts'
import type { BuildParts } from '../pipeline/parts.ts'
import { mapConcurrently } from '../util/collections/map-concurrently.ts'
import { atMost, type Releaser } from '../util/lifecycle.ts'
import { Periodic } from '../util/periodic.ts'
import type { Adapters } from './setup.ts'

/** How often logs that could not be ended are, and how often builds of other servers are added to a queue in memory. */
const RECOVER_MS = 10_000
/** Logs that are ended at a time. */
const LOGS_AT_ONCE = 4
/** How long shutdown waits for them; the next start ends the others. */
const LAST_LOGS_MS = 5000

/**
 * Recovers what an earlier process left unfinished, for a queue in memory. Unfinished builds go back into the queue,
 * interrupted ones first. The logs of builds that finished just before the process died are ended in the background, as
 * their storage may be slow or down.
 *
 * If the builds are in a shared database, other servers may still be running them: a rolling update starts the new
 * server before the old one has exited. The store protects the builds that they hold (see BuildStore.claimFor), and
 * what they abandon is recovered later.
 */
export async function recover(
  { store, queue, logs }: Pick<Adapters, 'queue' | 'logs'> & Pick<BuildParts, 'store'>,
  releaser: Releaser,
  log: Log,
  everyMs = RECOVER_MS,
): Promise<void> {
  async function send(): Promise<void> {
    const unfinished = await store.unfinished()
    const interrupted = unfinished.filter(({ state }) => state === 'building')
    const others = unfinished.filter(({ state }) => state !== 'building')
    for (const { id, repository, turn } of [...interrupted, ...others])
      await queue.send({ buildId: id, repository, turn })
  }

  const ended = new Set((await store.unreported()).map(({ id }) => id))
  await send()
  // From that time on, no other server writes to these logs.
  const endLogsAt = performance.now() + (queue.duplicates ? queue.leaseSeconds * 1000 : 0)
  const stopping = new AbortController()

  /** @throws the first error, after all logs were tried: those that are left are tried again */
  async function endLogs(): Promise<void> {
    if (performance.now() < endLogsAt) return
    const errors: unknown[] = []
    await mapConcurrently([...ended], LOGS_AT_ONCE, async (id) => {
      if (stopping.signal.aborted) return
      try {
        await (await logs.open(id)).end()
        ended.delete(id)
      } catch (error) {
        errors.push(error)
      }
    })
    if (errors.length > 0) throw errors[0]
  }

  const ending = new Periodic(everyMs, endLogs, (error, isNews) => {
    if (!isNews) return
    const { advice } = toConveyorError(error, 'failed')
    log(`ending the logs of an earlier process (${ended.size} are left): ${advice}`, { level: 'warn' })
  })
  void ending.run()
  releaser.add('ending of logs', ending, (it) => {
    stopping.abort()
    return atMost(LAST_LOGS_MS, it.stop())
  })
  if (!queue.duplicates) return
  const recovery = new Periodic(everyMs, send, logFirst(log, 'recovering builds of other servers'))
  releaser.add('recovery of builds', recovery, (it) => it.stop())
}
