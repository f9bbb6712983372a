import { ConveyorError } from '../core/errors.ts'
import type { BuildObserver } from '../pipeline/observer.ts'
import type { BuildParts } from '../pipeline/parts.ts'

/** The parts, with the errors of the registry and of the git server shown to an observer. */
export function observedParts(parts: BuildParts, observer: BuildObserver): BuildParts {
  const { source, history, registry } = parts
  const seen = <T>(system: 'registry' | 'git', work: Promise<T>): Promise<T> => {
    work.catch((thrown: unknown) => {
      // Anything else is an abort, or a defect.
      if (thrown instanceof ConveyorError) observer.systemError(system, thrown.kind)
    })
    return work
  }
  return {
    ...parts,
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
    },
  }
}
