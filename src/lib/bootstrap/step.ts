import { ConveyorError } from '../core/errors.ts'

/** Result of one step of bootstrap. */
export interface BootstrapStep {
  /** `ok`: it existed already, and is unchanged. `missing`: the step failed, at least in part. */
  state: 'created' | 'updated' | 'ok' | 'missing'
  /** Description for the terminal; for a missing one, why and what to do. */
  text: string
}

/** Runs steps and reports their results. */
export class StepReporter {
  readonly #report: (step: BootstrapStep) => void

  constructor(report: (step: BootstrapStep) => void) {
    this.#report = report
  }

  /**
   * Runs a step and reports its result. A ConveyorError is reported and not thrown, so that the other steps still run;
   * any other error is a defect, and is thrown.
   * @returns what the step created; null if it failed
   */
  async perform<T>(
    what: string,
    action: () => Promise<T>,
    stepOf: (result: T) => BootstrapStep,
  ): Promise<T | null> {
    try {
      const result = await action()
      this.#report(stepOf(result))
      return result
    } catch (error) {
      if (!(error instanceof ConveyorError)) throw error
      this.#report({ state: 'missing', text: `${what}: ${error.advice}` })
      return null
    }
  }

  /** The same for a step that returns only its result. */
  async run(what: string, action: () => Promise<BootstrapStep>): Promise<BootstrapStep | null> {
    return this.perform(what, action, (step) => step)
  }
}

/** Turns an error of the engine, or of the connection to it, into a ConveyorError. */
export function engineError(failed: string, thrown: unknown): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  return new ConveyorError('unavailable', `${failed}: ${(thrown as Error).message}`, { cause: thrown })
}
