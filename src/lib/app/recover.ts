import { toConveyorError } from '../core/errors.ts'
import type { Releaser } from '../util/lifecycle.ts'
import type { Adapters } from './setup.ts'

/** How often a queue in memory is told of builds that another server accepted or left. */
const AGAIN_MS = 10_000

/**
 * For a queue in memory, takes up what an earlier process left: builds that were accepted but not ended go back
 * into the queue, those first that ran; and the logs of builds that ended just before it died are ended too.
 *
 * Where the builds are in a database that other servers may use at the same time, these may still have them: an
 * update starts the new server before the old one has ended. What they hold is theirs, as the store says (see
 * BuildStore.claimFor), and what they leave behind is found later.
 */
export async function recover(
  { parts: { store }, queue, logs }: Pick<Adapters, 'parts' | 'queue' | 'logs'>,
  releaser: Releaser,
  log: (line: string) => void,
): Promise<void> {
  async function send(): Promise<void> {
    const unfinished = await store.unfinished()
    const cutOff = unfinished.filter(({ state }) => state === 'building')
    const others = unfinished.filter(({ state }) => state !== 'building')
    for (const { id, repository } of [...cutOff, ...others]) await queue.send({ buildId: id, repository })
  }

  async function endLogs(ids: string[]): Promise<void> {
    for (const id of ids) await (await logs.open(id)).end()
  }

  const unreported = async () => (await store.unreported()).map(({ id }) => id)
  const ended = await unreported()
  await send()
  if (!queue.duplicates) return endLogs(ended)

  let sending: Promise<void> | undefined
  /** Nobody writes to these logs any more once it has passed. */
  let endLogsAt = performance.now() + queue.leaseSeconds * 1000
  const timer = setInterval(() => {
    sending ??= again()
      .catch((error) =>
        log(`looking for builds of other servers: ${toConveyorError(error, 'it failed').advice}`),
      )
      .finally(() => {
        sending = undefined
      })
  }, AGAIN_MS)
  releaser.add('look for builds of other servers', timer, (it) => {
    clearInterval(it)
    return sending
  })

  async function again(): Promise<void> {
    await send()
    if (performance.now() < endLogsAt) return
    endLogsAt = Number.POSITIVE_INFINITY
    const still = new Set(await unreported())
    await endLogs(ended.filter((id) => still.has(id)))
  }
}
