import type { Config } from '../../config/config.ts'
import { type Log, logFirst } from '../../core/log.ts'
import type { BuildParts } from '../../pipeline/parts.ts'
import { TagCleaner } from '../../pipeline/pulls/clean-tags.ts'
import { Periodic } from '../../util/periodic.ts'

/** How often the tags of closed pull requests are looked for, besides when one is closed. */
const EVERY_MS = 60_000

/** Removes the tags of pull requests that are closed. Null if they are kept. */
export function pullTags(
  { pulls }: Pick<Config, 'pulls'>,
  { store, registry, names }: Pick<BuildParts, 'store' | 'registry' | 'names'>,
  log: Log,
): Periodic | null {
  if (pulls.keep || pulls.enabled === 'off') return null
  const cleaner = new TagCleaner({ store, registry, names, log })
  return new Periodic(EVERY_MS, () => cleaner.sweep(), logFirst(log, 'removing tags of pull requests'))
}
