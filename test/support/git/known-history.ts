import type { History } from '../../../src/lib/source/source.ts'

/** A git server that has no refs: what is in doubt is settled by the pushes themselves, or by their arrival. */
export const NO_HISTORY: History = { head: async () => null, contains: async () => false }
