/** Times the phases of a build, for the summary at the end of its log. */
export class Stopwatch {
  readonly #started = performance.now()
  readonly #phases = new Map<string, { ms: number; note: string }>()

  /** Adds the time until `work` settles to a phase. */
  async measure<T>(phase: string, work: Promise<T>): Promise<T> {
    const from = performance.now()
    try {
      return await work
    } finally {
      this.#phase(phase).ms += performance.now() - from
    }
  }

  /** Moves a part of a phase's time to another phase. */
  split(phase: string, part: string, ms: number): void {
    this.#phase(phase).ms -= ms
    this.#phase(part).ms += ms
  }

  /** A remark that the summary shows in parentheses after the phase. */
  note(phase: string, text: string): void {
    this.#phase(phase).note = text
  }

  /** `fetch 0.03 s (1495 entries), build 0.61 s (3 of 4 steps cached), push 0.12 s; 0.80 s in all`. */
  toString(): string {
    const phases = [...this.#phases].map(
      ([name, { ms, note }]) => `${name} ${seconds(ms)}${note === '' ? '' : ` (${note})`}`,
    )
    return `${phases.join(', ')}; ${seconds(performance.now() - this.#started)} in all`
  }

  #phase(name: string): { ms: number; note: string } {
    const phase = this.#phases.get(name) ?? { ms: 0, note: '' }
    this.#phases.set(name, phase)
    return phase
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}
