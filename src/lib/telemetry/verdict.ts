import type { Build } from '../core/build.ts'

/** How a build ended, for operators: `error` is a part of the setup that did not work, `failed` the build's own fault. */
export type BuildVerdict = 'succeeded' | 'reused' | 'failed' | 'error' | 'cancelled'

/** @param reused whether its image is that of an earlier build */
export function verdictOf({ state, errorKind }: Build, reused: boolean): BuildVerdict {
  if (state === 'succeeded') return reused ? 'reused' : 'succeeded'
  if (state === 'cancelled' || errorKind === 'cancelled') return 'cancelled'
  return errorKind === 'unavailable' || errorKind === 'unauthorized' ? 'error' : 'failed'
}
