import { type LogStep, PlainLog } from '../../core/build-log/plain-log.ts'
import { LogRows } from '../../core/build-log/rows.ts'
import type { LogStore } from '../../logs/log-store.ts'
import { keepNewest } from '../../util/collections/keep-newest.ts'

/** Every so many rows, an offset is kept; twice as many whenever there are too many offsets. */
const STRIDE = 64
const MAX_OFFSETS = 8192
/** How many logs are known at a time: each takes up to 64 kB for its offsets, and some 100 bytes for each step. */
const KEPT = 64
/** How long reading may keep the event loop, in milliseconds. */
const TURN_MS = 8

/** Where a row of a log begins, or one shortly before it. */
export interface RowPlace {
  row: number
  offset: number
}

/** What is known of one log: where its rows begin, and its steps. Reads on where it stopped. */
export class LineIndex {
  readonly #logs: LogStore
  readonly #buildId: string
  readonly #log = new PlainLog()
  readonly #rows = new LogRows()
  #offsets: number[] = [0]
  #stride = STRIDE
  #size = 0
  #updating: Promise<void> | null = null

  constructor(logs: LogStore, buildId: string) {
    this.#logs = logs
    this.#buildId = buildId
  }

  /** Rows that a newline ends (or their length). The last line of a log may have none; it is not counted yet. */
  get rows(): number {
    return this.#log.rows
  }

  /** How many bytes have been read. */
  get size(): number {
    return this.#size
  }

  /** Whether bytes follow the last row. */
  get isCut(): boolean {
    return this.#rows.pending > 0
  }

  get steps(): LogStep[] {
    return this.#log.steps
  }

  attemptOf(row: number): number {
    return this.#log.attemptOf(row)
  }

  /** The last known place before a row, or at it. */
  place(row: number): RowPlace {
    const at = Math.min(Math.floor((Math.max(1, row) - 1) / this.#stride), this.#offsets.length - 1)
    return { row: at * this.#stride + 1, offset: this.#offsets[at] ?? 0 }
  }

  /** Reads what has been written since the last time. @throws ConveyorError if the log cannot be read */
  update(): Promise<void> {
    this.#updating ??= this.#read().finally(() => {
      this.#updating = null
    })
    return this.#updating
  }

  async #read(): Promise<void> {
    let turn = performance.now()
    let offset = this.#size
    for await (const bytes of this.#logs.read(this.#buildId, { offset, follow: false })) {
      this.take(offset, bytes)
      offset += bytes.length
      if (performance.now() - turn < TURN_MS) continue
      await new Promise(setImmediate)
      turn = performance.now()
    }
  }

  /** Takes bytes of the log that somebody has read anyway; what it has already, or comes too early, is ignored. */
  take(start: number, piece: Uint8Array): void {
    const known = this.#size - start
    if (known < 0 || known >= piece.length) return
    const bytes = piece.subarray(known)
    let offset = this.#size - this.#rows.pending
    for (const row of this.#rows.push(bytes)) {
      this.#log.take(row)
      offset += row.length
      // A row that its length ends has no newline.
      if (bytes[offset - this.#size] === NEWLINE) offset++
      if (this.#log.rows % this.#stride === 0) this.#keep(offset)
    }
    this.#size += bytes.length
  }

  #keep(offset: number): void {
    this.#offsets.push(offset)
    if (this.#offsets.length <= MAX_OFFSETS) return
    this.#offsets = this.#offsets.filter((_, at) => at % 2 === 0)
    this.#stride *= 2
  }
}

const NEWLINE = 0x0a

/** The logs that were looked at last. */
export class LineIndexes {
  readonly #logs: LogStore
  readonly #known = new Map<string, LineIndex>()

  constructor(logs: LogStore) {
    this.#logs = logs
  }

  /** The index of a build's log, as far as it has been read. */
  of(buildId: string): LineIndex {
    const index = this.#known.get(buildId) ?? new LineIndex(this.#logs, buildId)
    keepNewest(this.#known, buildId, index, KEPT)
    return index
  }
}
