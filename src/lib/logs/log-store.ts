/** Appends to the log of one build. Logs have one writer at a time. */
export interface LogWriter {
  /** Resolves when the writer can accept more (back-pressure), which may be before the bytes are stored. */
  write(chunk: Uint8Array | string): Promise<void>
  /** Resolves when all earlier writes are stored, and so survive this process. */
  flush(): Promise<void>
  /** Stores all writes. The log is not ended: another attempt may append to it. */
  close(): Promise<void>
  /** Stores all writes and ends the log, as well as the readers that follow it. Idempotent. */
  end(): Promise<void>
}

export interface ReadLogOptions {
  /** The first byte to read; 0 by default. Past the end, nothing is read until the log reaches it. */
  offset?: number
  /** Whether to wait for more until the log is ended (default), or stop at its current end. */
  follow?: boolean
  signal?: AbortSignal
}

/** Stores logs as byte streams with offsets. Any process can read them while they grow. */
export interface LogStore {
  /** Opens the log of a build for appending; creates it if needed. */
  open(buildId: string): Promise<LogWriter>
  /**
   * The log's bytes from an offset on, in pieces of at most 64 KiB. A log that does not exist yet is empty, and waited for
   * when following. Ends without an error when `signal` is aborted.
   */
  read(buildId: string, options?: ReadLogOptions): AsyncIterable<Uint8Array>
  /**
   * Checks that the storage supports what writers need, if that is uncertain.
   * @param trace whether the check may leave something in the storage
   * @throws ConveyorError `invalid` if it does not; others if that cannot be checked
   */
  checkWrites?(options: { trace: boolean }): Promise<void>
  close(): Promise<void>
}
