import { LogRows, MAX_ROW } from '../../core/build-log/rows.ts'
import type { LogStore } from '../../logs/log-store.ts'
import { Semaphore } from '../../util/locks/semaphore.ts'
import type { RowPlace } from './line-index.ts'

export interface LogSearch {
  /** Literal text; 1 to 500 bytes in UTF-8, without line breaks. */
  text: string
  /** Whether A and a differ; without, the letters of ASCII are the same. */
  caseSensitive: boolean
  /** Where to begin. */
  from: RowPlace
  /** The first row that counts. */
  firstRow: number
  /** How many rows are listed. */
  limit: number
  signal: AbortSignal
}

export interface SearchResult {
  /** The rows with the text, in order; at most `limit`. */
  rows: number[]
  /** How many there are in all. */
  total: number
}

/** Lines that are longer are searched in parts of this size, in bytes; what spans two of them is found, too. */
const MAX_BLOCK = 256 * 1024
/** How long a search may keep the event loop, in milliseconds. */
const TURN_MS = 8
/** Searches at a time: each keeps a processor busy. */
const running = new Semaphore(2)

/**
 * Searches a log for rows with a text, in one pass and without keeping more than a piece of it.
 * @throws the signal's reason when it is aborted; ConveyorError if the log cannot be read
 */
export async function searchLog(logs: LogStore, buildId: string, search: LogSearch): Promise<SearchResult> {
  const { signal, from } = search
  await running.acquire(signal)
  try {
    const scan = new Scan(search)
    let turn = performance.now()
    for await (const piece of logs.read(buildId, { offset: from.offset, follow: false, signal })) {
      scan.take(piece)
      signal.throwIfAborted()
      if (performance.now() - turn < TURN_MS) continue
      await new Promise(setImmediate)
      turn = performance.now()
    }
    signal.throwIfAborted()
    return scan.end()
  } finally {
    running.release()
  }
}

const NEWLINE = 0x0a

class Scan {
  readonly #wanted: Buffer
  readonly #search: LogSearch
  readonly #rows = new LogRows()
  /** The number of the row that `#rows` is in. */
  #row: number
  /** Bytes that are not searched yet. */
  #rest: Buffer = Buffer.alloc(0)
  readonly #found: number[] = []
  #total = 0
  #lastFound = 0

  constructor(search: LogSearch) {
    this.#search = search
    this.#row = search.from.row
    this.#wanted = this.#folded(Buffer.from(search.text))
  }

  take(piece: Uint8Array): void {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    const all = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes
    const lines = all.lastIndexOf(NEWLINE) + 1
    const whole = all.length - lines > MAX_BLOCK ? all.length - this.#wanted.length + 1 : lines
    this.#scan(all, whole)
    // A copy: the store may use the memory of a piece again.
    this.#rest = Buffer.from(all.subarray(whole))
  }

  end(): SearchResult {
    this.#scan(this.#rest, this.#rest.length)
    return { rows: this.#found, total: this.#total }
  }

  /** Searches what begins before `end`. */
  #scan(all: Buffer, end: number): void {
    const text = this.#folded(all)
    let at = 0
    for (;;) {
      const hit = text.indexOf(this.#wanted, at)
      if (hit < 0 || hit >= end) break
      this.#row += this.#rows.count(all.subarray(at, hit + 1))
      this.#add(this.#row)
      // Rows with several hits count once: what is in the same row for certain is skipped.
      const newline = text.indexOf(NEWLINE, hit)
      const sameRow = hit + 1 + Math.max(0, SHORTEST_CUT - this.#rows.pending)
      at = Math.min(newline < 0 ? end : newline, end, sameRow)
      this.#row += this.#rows.count(all.subarray(hit + 1, at))
    }
    this.#row += this.#rows.count(all.subarray(at, end))
  }

  #add(row: number): void {
    if (row < this.#search.firstRow || row === this.#lastFound) return
    this.#lastFound = row
    this.#total++
    if (this.#found.length < this.#search.limit) this.#found.push(row)
  }

  /** In lower case, as far as ASCII goes, unless case matters. The length stays the same. */
  #folded(bytes: Buffer): Buffer {
    if (this.#search.caseSensitive) return bytes
    const folded = Buffer.allocUnsafe(bytes.length)
    for (let at = 0; at < bytes.length; at++) folded[at] = LOWER[bytes[at] ?? 0] ?? 0
    return folded
  }
}

/** Of the rows of a long line, in bytes: they end between two characters. */
const SHORTEST_CUT = MAX_ROW - 3

const LOWER = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte))
