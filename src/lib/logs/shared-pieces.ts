/** How many pieces are kept for other readers. */
const PIECES_KEPT = 16

/**
 * Readers of one log are mostly at the same place of it: they get the same bytes, from one read. With
 * fifty readers of their own buffers, most of a server's memory was such buffers.
 */
export class SharedPieces {
  /** The last pieces read, oldest first. */
  readonly #recent = new Map<string, Promise<Uint8Array>>()

  /** What `fetch` answers for these bytes of a log; not to be changed, as others have them too. */
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
    this.#recent.set(key, piece)
    piece.catch(() => this.#recent.delete(key))
    const [oldest] = this.#recent.keys()
    if (this.#recent.size > PIECES_KEPT && oldest !== undefined) this.#recent.delete(oldest)
    return piece
  }
}
