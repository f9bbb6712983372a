import type { Turn } from '../core/build.ts'

/**
 * What waits, by turn: lane, round, and within a round in the order of `add`. There is a round for each waiting build of
 * the busiest repository: few enough to look through.
 */
export class TurnList<T extends { turn: Turn }> {
  readonly #lanes: Map<number, Set<T>>[] = [new Map(), new Map()]
  #size = 0

  get size(): number {
    return this.#size
  }

  add(one: T): void {
    const rounds = this.#lanes[one.turn.lane]
    const round = rounds?.get(one.turn.round)
    if (round) round.add(one)
    else rounds?.set(one.turn.round, new Set([one]))
    this.#size += 1
  }

  /** Its turn must be what it was when it was added. @returns whether it was there */
  delete(one: T): boolean {
    const rounds = this.#lanes[one.turn.lane]
    const round = rounds?.get(one.turn.round)
    if (!round?.delete(one)) return false
    if (round.size === 0) rounds?.delete(one.turn.round)
    this.#size -= 1
    return true
  }

  has(one: T): boolean {
    return this.#lanes[one.turn.lane]?.get(one.turn.round)?.has(one) ?? false
  }

  first(): T | undefined {
    for (const rounds of this.#lanes) {
      let first = Number.POSITIVE_INFINITY
      for (const round of rounds.keys()) first = Math.min(first, round)
      const [one] = rounds.get(first) ?? []
      if (one) return one
    }
    return undefined
  }

  /** In no particular order. */
  *[Symbol.iterator](): Generator<T> {
    for (const rounds of this.#lanes) for (const round of rounds.values()) yield* round
  }
}
