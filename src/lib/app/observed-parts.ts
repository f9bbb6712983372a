import type { Builder } from '../builder/builder.ts'
import { ConveyorError } from '../core/errors.ts'
import type { BuildObserver } from '../pipeline/observer.ts'
import type { BuildParts } from '../pipeline/parts.ts'

/** The parts, with the errors of the registry and of the git server shown to an observer. */
export function observedParts(parts: BuildParts, observer: BuildObserver): BuildParts {
  const { source, history, registry, builder } = parts
  const seen = <T>(system: 'registry' | 'git', work: Promise<T>): Promise<T> => {
    work.catch((thrown: unknown) => {
      // Anything else is an abort, or a defect.
      if (thrown instanceof ConveyorError) observer.systemError(system, thrown.kind)
    })
    return work
  }
  // The engine pushes and pulls, too.
  const build: Builder['build'] = (...args) => {
    const built = builder.build(...args)
    built.catch((thrown: unknown) => {
      if (thrown instanceof ConveyorError && thrown.system) observer.systemError(thrown.system, thrown.kind)
    })
    return built
  }
  return {
    ...parts,
    builder: {
      build,
      describe: () => builder.describe(),
      platform: (...args) => builder.platform(...args),
      cacheTag: () => builder.cacheTag(),
      isWarm: (...args) => builder.isWarm(...args),
      prefetch: (...args) => builder.prefetch(...args),
      prefetchBase: (...args) => builder.prefetchBase(...args),
      saveCache: (...args) => builder.saveCache(...args),
      tidy: (...args) => builder.tidy(...args),
      localImage: (...args) => builder.localImage(...args),
      close: () => builder.close(),
    },
    source: {
      fetch: (...args) => seen('git', source.fetch(...args)),
      context: (...args) => source.context(...args),
      earlier: (...args) => source.earlier(...args),
      changes: (...args) => source.changes(...args),
    },
    history: {
      head: (...args) => seen('git', history.head(...args)),
      contains: (...args) => seen('git', history.contains(...args)),
    },
    registry: {
      head: (...args) => seen('registry', registry.head(...args)),
      manifest: (...args) => seen('registry', registry.manifest(...args)),
      putManifest: (...args) => seen('registry', registry.putManifest(...args)),
      deleteTag: (...args) => seen('registry', registry.deleteTag(...args)),
    },
  }
}
