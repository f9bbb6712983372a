import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import type { BuildParts } from '../../src/lib/pipeline/parts.ts'
import { NO_HISTORY } from '../support/git/known-history.ts'

type Needed = 'store' | 'registry' | 'names' | 'container'

/** The parts of builds in a container, which must use neither the source nor the builder. */
export function containerParts(needed: Required<Pick<BuildParts, Needed>>): BuildParts {
  return {
    ...needed,
    history: NO_HISTORY,
    cacheNamespace: () => 'its-own',
    latest: 'always',
    dry: false,
    settings: () => NO_SETTINGS,
    sourceUrl: () => '',
    secrets: async () => ({}),
    proxies: async () => ({ variables: {}, secrets: [] }),
    source: nothing(),
    builder: nothing(),
  }
}

function nothing<T extends object>(): T {
  return new Proxy({} as T, {
    get(_, name) {
      throw new Error(`${String(name)} was asked for`)
    },
  })
}
