import type { Pace } from '../pace.ts'
import { type Affixes, affixes } from './affixes.ts'
import type { Glob } from './glob.ts'

/** A pattern, and the group that it belongs to. */
export interface GroupedGlob {
  glob: Glob
  group: number
}

/** Limits the memory of a set's patterns, and their time for each character of a path. */
export const MAX_WORK = 5000
/** How many steps one lookup may take, as it does not yield to the event loop: up to a tenth of a second. */
const MAX_STEPS = 5_000_000

/** Patterns are found by prefix or suffix; this many or fewer are tried one by one. */
const FEW = 24

/**
 * Finds the groups with a pattern that matches a path: literals are looked up, and of the others only those with a
 * matching prefix or suffix are tried.
 */
export class PatternSet {
  readonly #literal: ReadonlyMap<string, readonly number[]>
  readonly #globs: readonly GroupedGlob[]
  readonly #starts: Affixes<GroupedGlob> | undefined
  readonly #ends: Affixes<GroupedGlob> | undefined
  /** By group, the number of the last lookup that it matched. */
  readonly #answers: Uint32Array
  #question = 0
  /** How many steps the current lookup may still take. */
  #left = 0

  private constructor(
    groups: number,
    literal: ReadonlyMap<string, readonly number[]>,
    globs: readonly GroupedGlob[],
    starts?: Affixes<GroupedGlob>,
    ends?: Affixes<GroupedGlob>,
  ) {
    this.#answers = new Uint32Array(groups)
    this.#literal = literal
    this.#globs = globs
    this.#starts = starts
    this.#ends = ends
  }

  static async of(patterns: readonly GroupedGlob[], groups: number, pace: Pace): Promise<PatternSet> {
    const literal = new Map<string, number[]>()
    const globs: GroupedGlob[] = []
    await pace.forEach(patterns, (one) => {
      if (!one.glob.literal) globs.push(one)
      else if (!literal.get(one.glob.head)?.push(one.group)) literal.set(one.glob.head, [one.group])
    })
    if (globs.length <= FEW) return new PatternSet(groups, literal, globs)
    const [starts, ends] = [new Map<string, GroupedGlob[]>(), new Map<string, GroupedGlob[]>()]
    const others: GroupedGlob[] = []
    await pace.forEach(globs, (one) => {
      const { head, tail } = one.glob
      const [text, index] = head.length >= tail.length ? [head, starts] : [tail, ends]
      if (text === '') others.push(one)
      else if (!index.get(text)?.push(one)) index.set(text, [one])
    })
    const indexes = [await affixes('start', starts, pace), await affixes('end', ends, pace)]
    return new PatternSet(groups, literal, others, ...indexes)
  }

  /**
   * Finds the groups that match `path`: `has` reports them until the next lookup.
   * @returns false if it took too long and was given up
   */
  ask(path: string): boolean {
    this.#question += 1
    this.#left = MAX_STEPS
    const literal = this.#literal.get(path)
    if (literal) for (const group of literal) this.#answers[group] = this.#question
    for (const one of this.#globs) this.#try(one, path)
    this.#starts?.of(path, (one) => this.#try(one, path))
    this.#ends?.of(path, (one) => this.#try(one, path))
    return this.#left >= 0
  }

  has(group: number): boolean {
    return this.#answers[group] === this.#question
  }

  #try({ glob, group }: GroupedGlob, path: string): void {
    if (this.#answers[group] === this.#question || this.#left < 0) return
    this.#left -= glob.work * path.length
    if (this.#left >= 0 && glob.matches(path)) this.#answers[group] = this.#question
  }
}
