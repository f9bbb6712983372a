import { notifySettingsFor } from '../../config/build-settings.ts'
import type { Config } from '../../config/config.ts'
import { type Log, logFirst } from '../../core/log.ts'
import { notifyConnections } from '../../notify/connections.ts'
import { Notifier } from '../../notify/notifier.ts'
import { notifyTarget } from '../../notify/target.ts'
import type { BuildStore } from '../../store/build-store.ts'
import type { Releaser } from '../../util/lifecycle.ts'
import { Periodic } from '../../util/periodic.ts'

/** How often builds that have ended are looked for; without URLs, only to clear the outbox. */
const LOOK_MS = 1000
const CLEAR_MS = 60_000

/** Sends a webhook for each build that ends, on any worker, until it is released. */
export function startNotifying(
  config: Config,
  { store, baseUrl, log }: { store: BuildStore; baseUrl: () => string; log: Log },
  releaser: Releaser,
): void {
  const { notify, proxies } = config
  const connections = notifyConnections(proxies, notify.local)
  const notifier = new Notifier({
    store,
    targets(repository) {
      const { urls, secret, format } = notifySettingsFor(notify, repository)
      return urls.map((url) => notifyTarget(url, secret, format))
    },
    baseUrl,
    dispatcher: connections.dispatcher,
    log,
  })
  const every = notify.urls.length > 0 ? LOOK_MS : CLEAR_MS
  const failed = logFirst(log, 'sending webhooks', { level: 'warn' })
  const looking = new Periodic(every, () => notifier.run(), failed)
  releaser.add('webhooks', notifier, async (it) => {
    await looking.stop()
    await it.close()
    await connections.destroy()
  })
}
