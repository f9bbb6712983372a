import type { Writable } from 'node:stream'
import { fileLogStore } from './file.ts'
import type { LogStore, ReadLogOptions } from './log-store.ts'

export interface StdoutLogStoreOptions {
  /** Directory of the spool, from which logs are read back. */
  dir: string
  /** The stream that every log is echoed to, normally the standard output of the process. */
  out: Writable
  /**
   * Whether logs are written and read by different processes. Readers then get a note about where to find the log, as
   * it stays with the process that built.
   */
  remote?: boolean
}

/** Bytes buffered for a slow `out` before the echo skips lines. */
const MAX_WAITING = 1024 * 1024
/** Longer lines are echoed in parts of this size. */
const MAX_LINE = 8 * 1024
const NEWLINE = 0x0a

/**
 * Logs as files in a spool, echoed line by line to `out`. Each line starts with the first 8 characters of its build's
 * id in brackets, so that `grep` finds the lines of one build.
 *
 * The spool is complete; the echo is best effort, and never delays or fails a build: if the reader of `out` is slow,
 * lines are skipped and counted, and a broken `out` ends the echo.
 */
export function stdoutLogStore({ dir, out, remote = false }: StdoutLogStoreOptions): LogStore {
  const spool = fileLogStore({ dir })
  const echo = new Echo(out)
  return {
    async open(buildId) {
      const writer = await spool.open(buildId)
      const lines = new Lines((line) => echo.line(echoTag(buildId), line))
      return {
        write(chunk) {
          lines.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
          return writer.write(chunk)
        },
        flush: () => writer.flush(),
        close() {
          lines.flush()
          return writer.close()
        },
        end() {
          lines.flush()
          return writer.end()
        },
      }
    },
    read: (buildId, options) => (remote ? noteOnLocation(buildId, options) : spool.read(buildId, options)),
    close: () => spool.close(),
  }
}

/** A note in place of a log that another process wrote to its standard output. */
async function* noteOnLocation(
  buildId: string,
  { offset = 0 }: ReadLogOptions = {},
): AsyncGenerator<Uint8Array> {
  const tag = echoTag(buildId)
  const text = Buffer.from(
    `This log is on the standard output of the worker that runs the build, in the lines that start with [${tag}].
To read logs here, set --logger on servers and workers to storage that all of them can reach: postgres://, s3://BUCKET or cloudwatch://GROUP.
`,
  )
  if (offset < text.length) yield text.subarray(offset)
}

/** Marks the lines of one build. */
function echoTag(buildId: string): string {
  return buildId.slice(0, 8)
}

/** Splits a byte stream into lines, without their newlines. */
class Lines {
  readonly #take: (line: Uint8Array) => void
  #partial: Uint8Array[] = []
  #partialBytes = 0

  constructor(take: (line: Uint8Array) => void) {
    this.#take = take
  }

  push(bytes: Uint8Array): void {
    let from = 0
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, from)) {
      this.#keep(bytes.subarray(from, at))
      this.#emit()
      from = at + 1
    }
    this.#keep(bytes.subarray(from))
  }

  flush(): void {
    if (this.#partialBytes > 0) this.#emit()
  }

  #keep(piece: Uint8Array): void {
    let rest = piece
    while (this.#partialBytes + rest.length > MAX_LINE) {
      const cut = MAX_LINE - this.#partialBytes
      this.#partial.push(rest.subarray(0, cut))
      this.#emit()
      rest = rest.subarray(cut)
    }
    if (rest.length > 0) this.#partial.push(rest)
    this.#partialBytes += rest.length
  }

  #emit(): void {
    const line = this.#partial.length === 1 ? this.#partial[0] : undefined
    this.#take(line ?? Buffer.concat(this.#partial))
    this.#partial = []
    this.#partialBytes = 0
  }
}

/** Writes whole lines to a stream that may be slow or broken. */
class Echo {
  readonly #out: Writable
  #broken = false
  /** Lines skipped since the last one that was written, by label. */
  readonly #skipped = new Map<string, number>()

  constructor(out: Writable) {
    this.#out = out
    // Never removed: an EPIPE may come after the last log was closed, and must not end the process.
    out.on('error', () => {
      this.#broken = true
    })
    out.on('drain', () => this.#reportSkipped())
  }

  line(label: string, line: Uint8Array): void {
    if (this.#broken || this.#out.destroyed || this.#out.writableEnded) return
    const full = this.#out.writableNeedDrain && this.#out.writableLength > MAX_WAITING
    if (full || this.#skipped.size > 0) {
      this.#skipped.set(label, (this.#skipped.get(label) ?? 0) + 1)
      return
    }
    this.#out.write(Buffer.concat([Buffer.from(`[${label}] `), line, Buffer.of(NEWLINE)]))
  }

  #reportSkipped(): void {
    const counts = [...this.#skipped]
    this.#skipped.clear()
    for (const [label, count] of counts) {
      this.line(label, Buffer.from(`(${count} lines not shown: the reader of this output is slow)`))
    }
  }
}
