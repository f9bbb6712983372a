/** Which steps of a build are made on which, by their digests. */
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

  /** What is made on these steps, they themselves among it. @param through whether to go on from a step */
  above(steps: Iterable<string>, through: (digest: string) => boolean = () => true): Set<string> {
    const found = new Set(steps)
    // A set that grows is walked to its new end.
    for (const digest of found) {
      if (through(digest)) for (const user of this.#users.get(digest) ?? []) found.add(user)
    }
    return found
  }
}
