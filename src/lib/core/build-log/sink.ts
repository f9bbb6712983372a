/** Takes the output of a build: the part of a LogWriter that builders and runners use. */
export interface LogSink {
  /** Resolves when the sink can take more. */
  write(chunk: Uint8Array | string): Promise<void>
}

/** Discards everything. */
export const DISCARD: LogSink = { write: async () => {} }
