import type { LogWriter } from './log-store.ts'

const nothing = async () => {}

/** A log that nobody reads: for builds that Conveyor makes for itself. */
export const NO_LOG: LogWriter = { write: nothing, flush: nothing, close: nothing, end: nothing }
