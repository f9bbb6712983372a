/**
 * Builds that ran when the last process was cut off: one of them may have ended it, and may do so again. Until they
 * have all ended, builds run one at a time, so that the next crash is that of the one that ran.
 */
export class Suspects {
  readonly #ids: Set<string>
  readonly #cleared = Promise.withResolvers<void>()

  constructor(ids: Iterable<string> = []) {
    this.#ids = new Set(ids)
    if (this.#ids.size === 0) this.#cleared.resolve()
  }

  /** A build has ended, or is no longer ours. */
  clear(id: string): void {
    this.#ids.delete(id)
    if (this.#ids.size === 0) this.#cleared.resolve()
  }

  /** Resolves when there is none left, or the signal is aborted. */
  async cleared(signal: AbortSignal): Promise<void> {
    const stopped = Promise.withResolvers<void>()
    const stop = () => stopped.resolve()
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    await Promise.race([this.#cleared.promise, stopped.promise])
    signal.removeEventListener('abort', stop)
  }
}
