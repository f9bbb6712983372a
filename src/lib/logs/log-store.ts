/** Appends to the log of one build. One writer at a time. */
export interface LogWriter {
  /** Resolves when the writer can take more (back-pressure), which may be before the bytes are stored. */
  write(chunk: Uint8Array | string): Promise<void>
  /** Resolves when everything that was written before is stored, whatever becomes of this process. */
  flush(): Promise<void>
  /** Everything stored; the log stays open, and another attempt may append to it. */
  close(): Promise<void>
  /** Everything stored and the log ended: readers that follow it come to their end. Idempotent. */
  end(): Promise<void>
}

export interface ReadLogOptions {
  /** First byte wanted; 0 by default. Past the end: nothing until the log grows to it. */
  offset?: number
  /** Wait for more until the log is ended (default), or stop at what is there now. */
  follow?: boolean
  signal?: AbortSignal
}

/** Logs as byte streams with offsets, readable while they grow, by this process or another. */
export interface LogStore {
  /** Opens the log of a build for appending, creating it if need be. */
  open(buildId: string): Promise<LogWriter>
  /**
   * The log's bytes from an offset, in pieces of at most 64 KiB. A log that does not exist yet is waited
   * for when following and empty otherwise. Ends quietly when `signal` is aborted.
   */
  read(buildId: string, options?: ReadLogOptions): AsyncIterable<Uint8Array>
  /**
   * Whether the place takes what writers need of it, where that is not certain.
   * @param trace false: nothing may be left there
   * @throws ConveyorError `invalid` when it does not; others when it cannot be asked
   */
  checkWrites?(options: { trace: boolean }): Promise<void>
  close(): Promise<void>
}

const nothing = async () => {}

/** Discards everything, for builds whose output is not kept. */
export const NULL_LOG: LogWriter = { write: nothing, flush: nothing, close: nothing, end: nothing }
