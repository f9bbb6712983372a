import { createHash } from 'node:crypto'

/**
 * Random values from a seed, which is a name: the same name gives the same values. Cheap enough for a hundred thousand
 * inputs.
 */
export class Chance {
  readonly #state: Uint32Array

  constructor(name: string) {
    const digest = createHash('sha256').update(name).digest()
    this.#state = Uint32Array.from([0, 4, 8, 12], (at) => digest.readUInt32LE(at))
  }

  /** 32 bits, by sfc32 of PractRand (https://pracrand.sourceforge.net). */
  #next(): number {
    const state = this.#state
    const [a = 0, b = 0, c = 0, count = 0] = state
    const result = (a + b + count) >>> 0
    state[0] = b ^ (b >>> 9)
    state[1] = c + (c << 3)
    state[2] = ((c << 21) | (c >>> 11)) + result
    state[3] = count + 1
    return result
  }

  /** An integer between `min` and `max`, inclusive. */
  whole(min: number, max: number): number {
    return min + Math.floor((this.#next() / 2 ** 32) * (max - min + 1))
  }

  /** A size up to `max`, with small ones as likely as large ones. */
  size(max: number): number {
    return Math.min(max, Math.floor((max + 1) ** (this.#next() / 2 ** 32)))
  }

  percent(chance: number): boolean {
    return this.#next() / 2 ** 32 < chance / 100
  }

  one<T>(options: readonly T[]): T {
    if (options.length === 0) throw new Error('there is nothing to choose from')
    return options[this.whole(0, options.length - 1)] as T
  }

  /** Between `min` and `max` times. */
  times<T>(min: number, max: number, make: (index: number) => T): T[] {
    return Array.from({ length: this.whole(min, max) }, (_, index) => make(index))
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let at = 0; at < length; at += 1) bytes[at] = this.#next() & 0xff
    return bytes
  }
}
