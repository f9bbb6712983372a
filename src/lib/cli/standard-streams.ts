import { fstatSync } from 'node:fs'

/**
 * Handles output that cannot be written: the reader of a pipe has exited (`| head -1`), or the disk is full. Imports
 * no other module of Conveyor, because every start of the CLI loads this one.
 */

/** As shells report a process that was killed by SIGPIPE. */
const SIGPIPE_EXIT = 141
/** A required component is unavailable; see EXIT_CODES. */
const WRITE_FAILED = 3

let ignoresReaders = false

/**
 * Makes the process exit when the reader of standard output does, as SIGPIPE does for most programs; also for standard
 * error if that is the same pipe. A full disk is an error.
 */
export function watchStandardStreams(): void {
  process.stdout.on('error', (error) => {
    if (!ignoresReaders) exitFor(error)
  })
  process.stderr.on('error', () => {
    // If only the log is lost, the result can still be printed.
    if (!ignoresReaders && isSameFile()) process.exit(SIGPIPE_EXIT)
  })
}

/** Makes the process continue when the readers of its output exit. */
export function ignoreClosedOutput(): void {
  ignoresReaders = true
  // oclif's own listener throws.
  process.stdout.removeAllListeners('error')
  process.stdout.on('error', () => {})
}

/** Prints the result of a command. Exits if it cannot be written. */
export async function printResult(text: string | Uint8Array): Promise<void> {
  const error = await new Promise<Error | null | undefined>((resolve) => process.stdout.write(text, resolve))
  if (error) exitFor(error)
}

function exitFor(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(SIGPIPE_EXIT)
  process.stderr.write(` ›   Error: cannot write to standard output: ${error.message}\n`)
  process.exit(WRITE_FAILED)
}

/** Whether standard output and standard error are the same file. */
function isSameFile(): boolean {
  try {
    const [out, err] = [fstatSync(1), fstatSync(2)]
    return out.ino === err.ino && out.dev === err.dev
  } catch {
    return false // one of them is closed
  }
}
