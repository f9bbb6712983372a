/** Counts bytes held for clients, with a limit per client address and a total limit. */
export class ByteQuota {
  #used = 0
  readonly #byAddress = new Map<string, number>()
  readonly #limits: { total: number; perAddress: number }

  constructor(limits: { total: number; perAddress: number }) {
    this.#limits = limits
  }

  /** Reserves bytes. Returns false, and reserves none, if that would exceed a limit. */
  reserve(address: string, bytes: number): boolean {
    const forAddress = (this.#byAddress.get(address) ?? 0) + bytes
    if (forAddress > this.#limits.perAddress || this.#used + bytes > this.#limits.total) return false
    this.#byAddress.set(address, forAddress)
    this.#used += bytes
    return true
  }

  release(address: string, bytes: number): void {
    const forAddress = (this.#byAddress.get(address) ?? 0) - bytes
    if (forAddress > 0) this.#byAddress.set(address, forAddress)
    else this.#byAddress.delete(address)
    this.#used -= bytes
  }
}
