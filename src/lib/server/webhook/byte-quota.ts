/** Bytes that are kept for others, with a limit for each address and for all together. */
export class Room {
  #taken = 0
  readonly #by = new Map<string, number>()
  readonly #limits: { inAll: number; perAddress: number }

  constructor(limits: { inAll: number; perAddress: number }) {
    this.#limits = limits
  }

  /** Whether there was room; then it is taken. */
  take(address: string, bytes: number): boolean {
    const its = (this.#by.get(address) ?? 0) + bytes
    if (its > this.#limits.perAddress || this.#taken + bytes > this.#limits.inAll) return false
    this.#by.set(address, its)
    this.#taken += bytes
    return true
  }

  give(address: string, bytes: number): void {
    const its = (this.#by.get(address) ?? 0) - bytes
    if (its > 0) this.#by.set(address, its)
    else this.#by.delete(address)
    this.#taken -= bytes
  }
}
