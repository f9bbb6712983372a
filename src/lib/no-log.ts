import type { LogWriter } from './logs/log-store.ts'

/** A log that nobody reads: for builds that Conveyor makes for itself. */
export const NO_LOG: LogWriter = { write: async () => {}, close: async () => {}, end: async () => {} }
