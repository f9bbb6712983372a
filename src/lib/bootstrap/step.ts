import { ConveyorError } from '../core/errors.ts'

/** One thing of a machine, and what bootstrap did about it. */
export interface Step {
  /** `changed`: it was there, and is brought up to date. `missing`: it cannot be had, or only in part. */
  state: 'made' | 'changed' | 'there' | 'missing'
  /** For the terminal: what it is and how it stands; of a missing one, why and what to do. */
  text: string
}

/** Tells of things as they come to stand. */
export class Steps {
  readonly #tell: (step: Step) => void

  constructor(tell: (step: Step) => void) {
    this.#tell = tell
  }

  /**
   * Makes a thing and tells how it stands. A ConveyorError is told as well, as other things do not depend on it;
   * anything else is a defect, and is thrown.
   * @returns the thing; null when it could not be made
   */
  async take<T>(what: string, make: () => Promise<T>, stepOf: (made: T) => Step): Promise<T | null> {
    try {
      const made = await make()
      this.#tell(stepOf(made))
      return made
    } catch (error) {
      if (!(error instanceof ConveyorError)) throw error
      this.#tell({ state: 'missing', text: `${what}: ${error.advice}` })
      return null
    }
  }

  /** Takes a thing that nothing else needs to know more of than how it stands. */
  async run(what: string, make: () => Promise<Step>): Promise<Step | null> {
    return this.take(what, make, (step) => step)
  }
}

/** What the engine, or a socket to it, said. */
export function engineError(failed: string, thrown: unknown): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  return new ConveyorError('unavailable', `${failed}: ${(thrown as Error).message}`, { cause: thrown })
}
