import type { History } from '../../../src/lib/source/source.ts'

/** A git server without refs: the order of pushes follows from their payloads, or from their arrival. */
export const NO_HISTORY: History = { head: async () => null, contains: async () => false }
