import type { Writable } from 'node:stream'
import type { WriteStream } from 'node:tty'
import { oneLine } from '../../core/one-line.ts'

/** Values of `--progress`; see `progressView`. */
export const PROGRESS_KINDS = ['auto', 'plain', 'tty', 'json'] as const
export type ProgressKind = (typeof PROGRESS_KINDS)[number]

/** Where progress is shown: standard error, which may be a terminal. */
export type Output = Writable & Partial<Pick<WriteStream, 'isTTY' | 'columns' | 'rows'>>

/** Shows how a build progresses. */
export interface ProgressView {
  /** Takes a piece of the build's log. Resolves when it can take more. */
  write(bytes: Uint8Array): Promise<void>
  /** Prints a line that is not part of the log. */
  say(line: string): void
  /** Shows the rest; nothing is shown afterwards. */
  end(): Promise<void>
}

/** The log as it is. */
export function plainProgress(out: Output): ProgressView {
  return {
    // Also if the reader has gone.
    write: (bytes) => new Promise((resolve) => out.write(bytes, () => resolve())),
    say: (line) => void out.write(`conveyor: ${oneLine(line)}\n`),
    end: async () => {},
  }
}
