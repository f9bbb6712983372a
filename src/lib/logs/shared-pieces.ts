import { keepNewest } from '../util/collections/keep-newest.ts'

/** How many pieces are cached. */
const PIECES_KEPT = 16

/**
 * Caches the pieces of logs that were read last. Readers of one log are mostly at the same position, and share buffers:
 * with fifty readers and a buffer each, buffers took most of a server's memory.
 */
export class SharedPieces {
  /** The last pieces read, oldest first. */
  readonly #recent = new Map<string, Promise<Uint8Array>>()

  /** These bytes of a log, from `fetch` unless cached. Callers must not modify them. */
  read(
    buildId: string,
    position: number,
    length: number,
    fetch: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    const key = `${buildId} ${position} ${length}`
    const known = this.#recent.get(key)
    if (known) return known
    const piece = fetch()
    keepNewest(this.#recent, key, piece, PIECES_KEPT)
    piece.catch(() => this.#recent.delete(key))
    return piece
  }
}
