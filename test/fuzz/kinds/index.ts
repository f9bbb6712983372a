import type { Kind } from '../kind.ts'
import { dockerfileKind } from './dockerfile.ts'
import { patternsKind } from './patterns.ts'

/** All kinds of inputs, by name. */
export const KINDS: Record<string, Kind> = {
  dockerfile: dockerfileKind,
  patterns: patternsKind,
}
