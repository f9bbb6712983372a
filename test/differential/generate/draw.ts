import fc from 'fast-check'

/** Draws values from fast-check's random source, one after another. */
export class Draw {
  readonly #generator: fc.GeneratorValue

  constructor(generator: fc.GeneratorValue) {
    this.#generator = generator
  }

  /** An integer between `min` and `max`, inclusive. */
  whole(min: number, max: number): number {
    return this.#generator(evenly, min, max)
  }

  chance(percent: number): boolean {
    return this.whole(0, 99) < percent
  }

  one<T>(options: readonly T[]): T {
    if (options.length === 0) throw new Error('there is nothing to choose from')
    return options[this.whole(0, options.length - 1)] as T
  }

  /** @param options with their weights */
  weighted<T>(options: readonly (readonly [number, T])[]): T {
    let left = this.whole(
      1,
      options.reduce((sum, [weight]) => sum + weight, 0),
    )
    for (const [weight, option] of options) {
      left -= weight
      if (left <= 0) return option
    }
    throw new Error('the weights are not whole numbers')
  }

  /** Between `min` and `max` times. */
  times<T>(min: number, max: number, make: (index: number) => T): T[] {
    return Array.from({ length: this.whole(min, max) }, (_, index) => make(index))
  }
}

/** Without fast-check's preference for small numbers: the values drawn here are choices, not sizes. */
function evenly(min: number, max: number): fc.Arbitrary<number> {
  return fc.noBias(fc.integer({ min, max }))
}
