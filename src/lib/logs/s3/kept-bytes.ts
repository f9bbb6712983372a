/** The largest log that is kept, in bytes. */
const KEPT = 1024 * 1024

/**
 * A copy of a log in its writer's memory, as long as it is all from this writer and at most 1 MiB, as most are. So its
 * text can be stored without fetching each segment, which would delay the end of a build.
 */
export class KeptBytes {
  #chunks: Buffer[] | null = []
  #size = 0

  /** Adds bytes that were stored at this offset. */
  add(offset: number, bytes: Uint8Array): void {
    if (offset !== this.#size || offset + bytes.length > KEPT) this.#chunks = null
    // Copied, as they may be a small part of a large buffer.
    this.#chunks?.push(Buffer.from(bytes))
    this.#size += bytes.length
  }

  /** The whole log, if it is kept and has this size. */
  all(size: number): Buffer | null {
    return this.#chunks && size === this.#size ? Buffer.concat(this.#chunks) : null
  }
}
