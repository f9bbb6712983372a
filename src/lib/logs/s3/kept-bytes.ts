/** The largest log that is kept. */
const KEPT = 1024 * 1024

/**
 * A log that its writer has in memory too, as long as it is all from this writer and no larger than 1 MiB, as most are:
 * its text can be stored without a request for each segment, and a build's end is not held up.
 */
export class KeptBytes {
  #chunks: Buffer[] | null = []
  #size = 0

  /** What was stored, and where. */
  add(offset: number, bytes: Uint8Array): void {
    if (offset !== this.#size || offset + bytes.length > KEPT) this.#chunks = null
    // A copy, as they may be a few of a large buffer.
    this.#chunks?.push(Buffer.from(bytes))
    this.#size += bytes.length
  }

  /** The log, if that is its size and it is here. */
  all(size: number): Buffer | null {
    return this.#chunks && size === this.#size ? Buffer.concat(this.#chunks) : null
  }
}
