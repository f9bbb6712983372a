/** The longest row, in bytes: longer lines are several rows. */
export const MAX_ROW = 32 * 1024

const NEWLINE = 0x0a

/**
 * Splits the bytes of a log into rows, which the viewer numbers from 1: its lines, those longer than MAX_ROW in several
 * rows that end between two characters. Rows depend only on the bytes, not on the chunks they come in, so that whoever
 * starts at the beginning of a row finds the same ones. Holds at most one row between calls.
 */
export class LogRows {
  #partial: Uint8Array[] = []
  #size = 0
  /** The row that `#advance` completed, if it did. */
  #row: Uint8Array[] | null = null

  /** Bytes of the row that is not complete. */
  get pending(): number {
    return this.#size
  }

  /** The rows that these bytes complete, without their newlines. */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, void> {
    for (let at = 0; at < bytes.length; ) {
      at = this.#advance(bytes, at)
      if (this.#row !== null) yield join(this.#row)
    }
  }

  /** The same, but only counts them. */
  count(bytes: Uint8Array): number {
    let rows = 0
    for (let at = 0; at < bytes.length; rows++) {
      // Most rows need no view of their bytes.
      const newline = this.#size === 0 ? bytes.indexOf(NEWLINE, at) : -1
      if (newline >= 0 && newline - at <= MAX_ROW) at = newline + 1
      else {
        at = this.#advance(bytes, at)
        if (this.#row === null) break
      }
    }
    return rows
  }

  /** The last row, if no newline ends it; null if there is none. */
  end(): Uint8Array | null {
    if (this.#size === 0) return null
    const row = join(this.#partial)
    this.#partial = []
    this.#size = 0
    return row
  }

  /** Takes bytes up to the end of the row or of the bytes. @returns where to continue */
  #advance(bytes: Uint8Array, from: number): number {
    const newline = bytes.indexOf(NEWLINE, from)
    const end = newline < 0 ? bytes.length : newline
    this.#row = null
    if (this.#size + end - from > MAX_ROW) return this.#cut(bytes, from)
    if (end > from) {
      this.#partial.push(bytes.subarray(from, end))
      this.#size += end - from
    }
    if (newline < 0) return end
    this.#row = this.#partial
    this.#partial = []
    this.#size = 0
    return newline + 1
  }

  /** Completes a row in the middle of a line. */
  #cut(bytes: Uint8Array, from: number): number {
    const next = from + MAX_ROW - this.#size
    const all = join([...this.#partial, bytes.subarray(from, next)])
    let size = all.length
    // A continuation byte would follow: the row ends before its character, unless that is longer than any.
    for (let back = 0; isContinuation(all[size] ?? bytes[next]) && back < 3; back++) size--
    if (isContinuation(all[size] ?? bytes[next])) size = all.length
    this.#row = [all.subarray(0, size)]
    this.#partial = size < all.length ? [all.subarray(size)] : []
    this.#size = all.length - size
    return next
  }
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces
  if (first !== undefined && pieces.length === 1) return first
  const all = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}
