/** The dependency graph of a build's steps, by digest. */
export class StepGraph {
  readonly #users = new Map<string, string[]>()

  /** Adds a step, once. */
  add(digest: string, inputs: readonly string[]): void {
    for (const input of inputs) {
      const users = this.#users.get(input)
      if (users) users.push(digest)
      else this.#users.set(input, [digest])
    }
  }

  /** These steps and everything that depends on them. @param through whether to continue past a step */
  above(steps: Iterable<string>, through: (digest: string) => boolean = () => true): Set<string> {
    const found = new Set(steps)
    // Iterating a Set includes members added meanwhile.
    for (const digest of found) {
      if (through(digest)) for (const user of this.#users.get(digest) ?? []) found.add(user)
    }
    return found
  }
}
