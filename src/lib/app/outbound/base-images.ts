import type { Config } from '../../config/config.ts'
import { repositoryFilter } from '../../core/allowed-repositories.ts'
import { type Log, logFirst } from '../../core/log.ts'
import { rebuildMovedBases } from '../../pipeline/bases/rebuild.ts'
import type { Releaser } from '../../util/lifecycle.ts'
import { Periodic } from '../../util/periodic.ts'
import type { Adapters } from '../setup.ts'

/** How often it is looked whether it is time to look up the base images. */
const LOOK_MS = 60_000

/** Builds again what has a base image that moved, for the repositories of `--rebuild.base`, until it is released. */
export function startRebuilding(
  config: Config,
  { parts, queue }: Pick<Adapters, 'parts' | 'queue'>,
  log: Log,
  releaser: Releaser,
): void {
  const { bases } = config.rebuild
  if (bases.length === 0) return
  const { store, registry, names } = parts
  const isAllowed = repositoryFilter(config.allow)
  const end = new AbortController()
  const work = () =>
    rebuildMovedBases({ store, registry, names, queue, log }, { patterns: bases, isAllowed }, end.signal)
  const failed = logFirst(log, 'looking up base images', { level: 'warn' })
  const looking = new Periodic(LOOK_MS, work, (error, isNews) => failed(error, isNews && !end.signal.aborted))
  void looking.run()
  releaser.add('base images', looking, (it) => {
    end.abort()
    return it.stop()
  })
}
