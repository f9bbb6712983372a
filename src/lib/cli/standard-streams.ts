import { fstatSync } from 'node:fs'

/**
 * What becomes of a process whose output nobody takes: the reader of a pipe has gone (`| head -1`), or the disk of a
 * file is full. Imports nothing of ours, as every start of the CLI pays for it.
 */

/** As shells have it of a process that SIGPIPE ended. */
const READER_GONE = 141
/** A part that is needed does not do its work; see EXIT_CODES. */
const NOT_WRITTEN = 3

let outlives = false

/**
 * From now on, the reader of standard output that goes away ends the process, as it ends programs that do not look
 * after it themselves; and so does one of standard error, where that is the same pipe. A full disk is an error.
 */
export function watchStandardStreams(): void {
  process.stdout.on('error', (error) => {
    if (!outlives) endFor(error)
  })
  process.stderr.on('error', () => {
    // With the log alone nobody loses the result.
    if (!outlives && isSameFile()) process.exit(READER_GONE)
  })
}

/** From now on, the process goes on without its readers. */
export function outliveReaders(): void {
  outlives = true
  // oclif has a listener of its own, which throws.
  process.stdout.removeAllListeners('error')
  process.stdout.on('error', () => {})
}

/** Writes the result of a command. Ends the process where it cannot be written. */
export async function printResult(text: string): Promise<void> {
  const error = await new Promise<Error | null | undefined>((resolve) => process.stdout.write(text, resolve))
  if (error) endFor(error)
}

function endFor(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(READER_GONE)
  process.stderr.write(` ›   Error: standard output cannot be written: ${error.message}\n`)
  process.exit(NOT_WRITTEN)
}

/** Whether standard output and standard error go to the same place. */
function isSameFile(): boolean {
  try {
    const [out, err] = [fstatSync(1), fstatSync(2)]
    return out.ino === err.ino && out.dev === err.dev
  } catch {
    return false // one of them is closed
  }
}
