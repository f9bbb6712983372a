import { toConveyorError } from '../core/errors.ts'
import type { Releaser } from '../util/lifecycle.ts'
import { Periodic } from '../util/periodic.ts'
import type { Adapters } from './setup.ts'

/** How often builds that another server accepted or abandoned are added to a queue in memory. */
const RECOVER_MS = 10_000

/**
 * Recovers what an earlier process left unfinished, for a queue in memory. Unfinished builds go back into the queue,
 * interrupted ones first. The logs of builds that finished just before the process died are ended.
 *
 * If the builds are in a shared database, other servers may still be running them: a rolling update starts the new
 * server before the old one has exited. The store protects the builds that they hold (see BuildStore.claimFor), and
 * what they abandon is recovered later.
 */
export async function recover(
  { parts: { store }, queue, logs }: Pick<Adapters, 'parts' | 'queue' | 'logs'>,
  releaser: Releaser,
  log: (line: string) => void,
): Promise<void> {
  async function send(): Promise<void> {
    const unfinished = await store.unfinished()
    const interrupted = unfinished.filter(({ state }) => state === 'building')
    const others = unfinished.filter(({ state }) => state !== 'building')
    for (const { id, repository, turn } of [...interrupted, ...others])
      await queue.send({ buildId: id, repository, turn })
  }

  async function endLogs(ids: string[]): Promise<void> {
    for (const id of ids) await (await logs.open(id)).end()
  }

  const unreported = async () => (await store.unreported()).map(({ id }) => id)
  const ended = await unreported()
  await send()
  if (!queue.duplicates) return endLogs(ended)

  /** From this time on, no other server writes to these logs. */
  let endLogsAt = performance.now() + queue.leaseSeconds * 1000
  const recovery = new Periodic(RECOVER_MS, again, (error) =>
    log(`recovering builds of other servers: ${toConveyorError(error, 'failed').advice}`),
  )
  releaser.add('recovery of builds', recovery, (it) => it.stop())

  async function again(): Promise<void> {
    await send()
    if (performance.now() < endLogsAt) return
    endLogsAt = Number.POSITIVE_INFINITY
    const still = new Set(await unreported())
    await endLogs(ended.filter((id) => still.has(id)))
  }
}
